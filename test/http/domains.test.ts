import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'

const directory = await temporaryDirectory(t)
const images = join(directory, 'images')
await Promise.all([images, join(directory, 'bare')].map(async path => { await mkdir(path) }))
const agent = await startAgent(t, { domains: [{ id: 'd', path: images, create: true }, { id: 'bare', path: join(directory, 'bare') }, { id: 'gone', path: join(directory, 'gone') }] })
for (const name of ['a.raw', 'b b.raw', 'c+@=,(1).raw', 'd.img', 'e.iso']) await writeFile(join(images, name), Buffer.alloc(512))
await symlink('a.raw', join(images, 'link.raw'))

const get = async (path: string) => await agent.request<Record<string, unknown> & { items: Array<Record<string, unknown>>, next?: string, code: string }>('GET', path)

t.test('every domain is told of, also those that are not available', async t => {
  const { body } = await get('/domains')
  t.match(body.items, [{ domain: 'd', state: 'available' }, { domain: 'bare', state: 'unavailable' }, { domain: 'gone', state: 'unavailable' }])
  t.match(await get('/domains/bare'), { status: 200, body: { state: 'unavailable' } })
  t.match(await get('/domains/nope'), { status: 404, body: { code: 'domain-not-found' } })
})

t.test('images are listed page by page', async t => {
  const whole = (await get('/domains/d/images')).body.items.map(({ image }) => image)
  t.same(whole.filter(image => image !== 'link.raw'), ['a.raw', 'b b.raw', 'c+@=,(1).raw', 'd.img', 'e.iso'])
  const seen: unknown[] = []
  let next: string | undefined
  do {
    const { body }: Awaited<ReturnType<typeof get>> = await get(`/domains/d/images?limit=2${next === undefined ? '' : `&cursor=${encodeURIComponent(next)}`}`)
    t.ok(body.items.length > 0 && body.items.length <= 2)
    seen.push(...body.items.map(({ image }) => image))
    next = body.next
  } while (next !== undefined)
  t.same(seen, whole)
  for (const query of ['limit=0', 'limit=1001', 'limit=x', 'page=1']) t.match(await get(`/domains/d/images?${query}`), { status: 400, body: { code: 'bad-request' } }, query)
})

t.test('an image is read by its name, percent-encoded where need be', async t => {
  for (const image of ['a.raw', 'b b.raw', 'c+@=,(1).raw']) t.match(await get(`/domains/d/images/${encodeURIComponent(image)}`), { status: 200, body: { image, state: 'ok' } })
  t.match(await get('/domains/d/images/nope.raw'), { status: 404, body: { code: 'image-not-found' } })
  for (const name of ['%2E%2E%2Fetc%2Fpasswd', '.hidden', '%00', 'a%0A', '%2Fetc%2Fpasswd', '']) {
    t.match(await get(`/domains/d/images/${name}`), { status: 400, body: { code: 'bad-request' } }, name)
  }
  t.match(await get('/domains/%2E%2E/images/a.raw'), { status: 400, body: { code: 'bad-request' } })
})

t.test('what cannot be read is refused with the code that says why, on every address', async t => {
  for (const path of ['images', 'images/a.raw', 'copies', 'fixes']) {
    for (const domain of ['bare', 'gone']) {
      const { status, body, headers } = await get(`/domains/${domain}/${path}`)
      t.match({ status, body, headers }, { status: 503, body: { code: 'domain-unavailable' }, headers: { 'retry-after': /^\d+$/ } }, `${domain}/${path}`)
    }
    t.match(await get(`/domains/nope/${path}`), { status: 404, body: { code: 'domain-not-found' } })
  }
})

t.test('a domain where nothing was copied has neither copies nor anything to fix', async t => {
  t.same((await get('/domains/d/copies')).body.items, [])
  t.same((await get('/domains/d/copies?taskId=nightly-42')).body.items, [])
  t.match(await get('/domains/d/copies?taskId=%2F'), { status: 400 })
  t.same((await get('/domains/d/fixes')).body.items, [])
})
