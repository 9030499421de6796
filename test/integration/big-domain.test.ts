import { randomUUID } from 'node:crypto'
import { link, mkdir, rm, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { BrokenImage, Copy } from '../../src/api/image.ts'
import { prepareArea } from '../../src/storage/area.ts'
import { takeLease } from '../../src/storage/lease.ts'
import type { CopyRecord } from '../../src/storage/record.ts'
import { openDirectory } from '../../src/system/directory.ts'
import { startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { recordOf } from '../helpers/records.ts'

t.setTimeout(240_000)

const done = 3000
const interrupted = 250
const images = 4000
const path = await temporaryDirectory(t)
const own = join(path, '.vdsm-tasks')
await prepareArea({ id: 'big', path }, true)

const nameOf = (number: number, kind: string) => `${kind}-${String(number).padStart(5, '0')}.raw`

const recordFor = (image: string, taskId: string, more: Partial<CopyRecord>) => recordOf({ domain: 'big', image, taskId, copyId: randomUUID(), ...more })
const completed: Partial<CopyRecord> = { phase: 'done', completedAt: '2026-01-01T00:00:02.000Z' }

const write = async (record: CopyRecord) => { await writeFile(join(own, `copies/${record.image}.json`), JSON.stringify(record)) }

t.test('lists of a big domain come page by page, and a question is answered from all of it', async t => {
  await writeFile(join(path, 'source.raw'), Buffer.alloc(4096))
  for (let number = 0; number < images; number++) await link(join(path, 'source.raw'), join(path, nameOf(number, 'image')))
  for (let number = 0; number < done; number++) await write(recordFor(nameOf(number, 'image'), `done-${number}`, completed))
  for (let number = 0; number < interrupted; number++) await write(recordFor(nameOf(number, 'part'), `cut-${number}`, {}))
  const agent = await startAgent(t, { domains: [{ id: 'big', path }] })
  const read = async <T>(query: string) => (await agent.request<{ items: T[], next?: string }>('GET', `/domains/big/${query}`)).body

  async function all<T> (list: string, query: string, limit: number): Promise<T[]> {
    const items: T[] = []
    let cursor: string | undefined
    do {
      const page: { items: T[], next?: string } = await read<T>(`${list}?limit=${limit}${query}${cursor === undefined ? '' : `&cursor=${cursor}`}`)
      t.ok(page.items.length <= limit)
      items.push(...page.items)
      cursor = page.next
    } while (cursor !== undefined)
    return items
  }

  const first = await read<Copy>('copies')
  t.equal(first.items.length, 100)
  t.equal(first.next, nameOf(99, 'image'))
  const copies = await all<Copy>('copies', '', 700)
  t.strictSame(copies.map(({ image }) => image), [...Array.from({ length: done }, (_, number) => nameOf(number, 'image')), ...Array.from({ length: interrupted }, (_, number) => nameOf(number, 'part'))])
  t.equal(copies.filter(({ state }) => state === 'done').length, done)

  t.match(await read<Copy>('copies?taskId=done-2999'), { items: [{ image: nameOf(2999, 'image'), copy: { taskId: 'done-2999' } }] })
  t.match(await read<Copy>('copies?taskId=cut-7'), { items: [{ image: nameOf(7, 'part'), state: 'interrupted' }] })
  t.strictSame((await read<Copy>('copies?taskId=nobody')).items, [])
  t.equal((await all<Copy>('copies', '&state=interrupted', 60)).length, interrupted)
  t.equal((await all<Copy>('copies', '&state=done', 1000)).length, done)
  t.strictSame(await all<Copy>('copies', '&state=copying', 60), [])
  const broken = await all<BrokenImage>('fixes', '', 60)
  t.strictSame(broken.map(({ image }) => image), Array.from({ length: interrupted }, (_, number) => nameOf(number, 'part')))
  t.equal((await all<{ image: string }>('images', '', 1000)).length, images + 1)
  for (const query of ['copies?limit=0', 'copies?state=lost', 'fixes?limit=1001', 'fixes?state=done']) {
    t.match(await agent.request('GET', `/domains/big/${query}`), { status: 400, body: { code: 'bad-request' } }, query)
  }

  await t.test('what changes is seen at once', async t => {
    const lease = await takeLease(await openDirectory(join(own, 'leases')), nameOf(7, 'part'), 'exclusive')
    await write(recordFor(nameOf(3, 'image'), 'again', completed))
    await rm(join(own, `copies/${nameOf(4, 'image')}.json`))
    await write(recordFor(nameOf(5, 'part'), 'cut-5', completed))
    // the second that the agent tells what it has seen for
    await new Promise(resolve => { setTimeout(resolve, 1100) })
    t.match(await read<Copy>('copies?taskId=again'), { items: [{ image: nameOf(3, 'image') }] })
    t.strictSame((await read<Copy>('copies?taskId=done-4')).items, [])
    t.match(await read<Copy>('copies?taskId=cut-7'), { items: [{ state: 'copying' }] })
    t.match(await read<Copy>('copies?state=copying'), { items: [{ image: nameOf(7, 'part') }] })
    t.equal((await all<Copy>('copies', '&state=interrupted', 1000)).length, interrupted - 2)
    await lease?.release()
  })
})

t.test('one record of what is no file does not spoil the lists', async t => {
  const other = await temporaryDirectory(t)
  await prepareArea({ id: 'big', path: other }, true)
  await mkdir(join(other, 'folder.raw'))
  await writeFile(join(other, '.vdsm-tasks/copies/folder.raw.json'), JSON.stringify(recordFor('folder.raw', 'folder', {})))
  await writeFile(join(other, '.vdsm-tasks/copies/part.raw.json'), JSON.stringify(recordFor('part.raw', 'part', {})))
  await utimes(join(other, '.vdsm-tasks/copies'), 1e9, 1e9)
  const agent = await startAgent(t, { domains: [{ id: 'big', path: other }] })
  t.match(await agent.copies('big'), [{ image: 'folder.raw', state: 'illegal' }, { image: 'part.raw', state: 'interrupted' }])
  t.match((await agent.fixes('big')).map(({ image }) => image), ['part.raw'])
})
