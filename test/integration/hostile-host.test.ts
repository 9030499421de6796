import { mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { deleteSpec, mendSpec, copySpec, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { recordOf } from '../helpers/records.ts'

t.setTimeout(180_000)

// Another host that shares the domain has written these. It may spoil its images; it must not lead this agent elsewhere.
const top = await temporaryDirectory(t)
const domain = join(top, 'domain')
const outside = join(top, 'outside')
const log = join(top, 'strace.log')
for (const path of [domain, outside]) await mkdir(path)
const agent = await startAgent(t, {
  domains: [{ id: 'local', path: domain, create: true }],
  under: ['strace', '-f', '--seccomp-bpf', '-qq', '-s', '4096', '-e', 'trace=open,openat,openat2,link,linkat,rename,renameat,renameat2,unlink,unlinkat,execve', '-o', log]
})
const own = (...path: string[]) => join(domain, '.vdsm-tasks', ...path)
await makeDisk(join(domain, 'source.raw'), MiB)
await makeDisk(join(outside, 'secret.raw'), MiB)
const record = async (image: string, content: unknown) => { await writeFile(own('copies', `${image}.json`), typeof content === 'string' || Buffer.isBuffer(content) ? content : JSON.stringify(content)) }

/** By image: a record that is refused for what it is. */
const rubbish: Record<string, unknown> = {
  'noise.raw': Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 7919) % 256)),
  'empty.raw': '',
  'null.raw': 'null',
  'deep.raw': '['.repeat(100_000),
  'huge.raw': `{"version":1,"x":"${'x'.repeat(5 * MiB)}"}`,
  'proto.raw': '{"__proto__":{"version":1},"constructor":1}',
  'copy-id.raw': { ...recordOf({ image: 'copy-id.raw' }), copyId: '../../../outside/secret.raw' },
  'other-image.raw': recordOf({ image: 'source.raw' }),
  'path-image.raw': { ...recordOf(), image: '../outside/secret.raw' },
  'path-source.raw': { ...recordOf({ image: 'path-source.raw' }), source: { domain: 'local', virtualSize: 4096, files: [{ image: '../../outside/secret.raw', format: 'raw', identity: { inode: '12', size: 4096, modified: '1', changed: '2' } }] } },
  'absolute-source.raw': { ...recordOf({ image: 'absolute-source.raw' }), source: { domain: 'local', virtualSize: 4096, files: [{ image: join(outside, 'secret.raw'), format: 'raw', identity: { inode: '12', size: 4096, modified: '1', changed: '2' } }] } },
  'driver.raw': { ...recordOf({ image: 'driver.raw' }), format: 'nbd' },
  'ranges.raw': { ...recordOf({ image: 'ranges.raw' }), done: [[-5, 5], [10, 2]] },
  'more.raw': { ...recordOf({ image: 'more.raw' }), command: 'rm -rf /' }
}

t.test('a record of rubbish, or with paths that lead outside, is refused with a problem', async t => {
  await Promise.all(Object.entries(rubbish).map(async ([image, content]) => {
    await record(image, content)
    const { status, body } = await agent.refused(`mend-${image}`, mendSpec(image))
    t.match([status, body.code], [422, 'record-invalid'], `${image}: ${body.detail}`)
  }))
  for (const image of ['noise.raw', 'copy-id.raw']) t.match(await agent.refused(`onto-${image}`, copySpec('source.raw', image)), { status: 422, body: { code: 'record-invalid' } })
  await symlink(join(outside, 'secret.raw'), own('copies', 'linked.raw.json'))
  t.match(await agent.refused('linked', mendSpec('linked.raw')), { status: 422, body: { code: 'record-invalid' } })
  const reads = await Promise.all(['copies', 'fixes', 'images'].map(async what => await agent.request('GET', `/domains/local/${what}`)))
  for (const { status } of reads) t.ok(status < 500, `reads still answer: ${status}`)
})

t.test('a lease that is a link, a directory or a pipe is nobody\'s lease', async t => {
  await symlink(join(outside, 'secret.raw'), own('leases', 'link-lease.raw'))
  await symlink(join(outside, 'made-by-us'), own('leases', 'dangling-lease.raw'))
  await mkdir(own('leases', 'folder-lease.raw'))
  await sh('mkfifo', own('leases', 'pipe-lease.raw'))
  for (const kind of ['link', 'dangling', 'folder', 'pipe']) {
    const { status, body } = await agent.refused(kind, copySpec('source.raw', `${kind}-lease.raw`))
    t.ok(status >= 400 && body.code !== 'internal', `${kind}: ${status} ${body.code}: ${body.detail}`)
  }
})

t.test('a part that is a link is not written to', async t => {
  const { copyId } = recordOf()
  await record('part.raw', recordOf({ image: 'part.raw' }))
  await symlink(join(outside, 'secret.raw'), own('parts', copyId))
  const { status, body } = await agent.refused('part', mendSpec('part.raw'))
  t.ok(status >= 400 && body.code !== 'internal', `${status} ${body.code}: ${body.detail}`)
})

t.test('a source of another domain that this agent does not have is not looked for', async t => {
  await record('elsewhere.raw', recordOf({ image: 'elsewhere.raw', source: { domain: 'elsewhere', virtualSize: 4096, files: [{ image: 'source.raw', format: 'raw', identity: { inode: '12', size: 4096, modified: '1', changed: '2' } }] } }))
  const { status, body } = await agent.refused('elsewhere', mendSpec('elsewhere.raw'))
  t.match([status, body.code], [404, 'domain-not-found'], body.detail)
})

t.test('whatever they hold, forged copies can be deleted', async t => {
  for (const image of ['elsewhere.raw', 'part.raw']) await agent.done(`delete-${image}`, deleteSpec(image))
})

t.test('nothing outside was opened, made or removed by anybody', async t => {
  const before = await readFile(join(outside, 'secret.raw'))
  t.equal(before.length, MiB)
  t.same((await listing(outside)).length, 1)
  await agent.kill()
  const calls = (await readFile(log, 'utf8')).split('\n').filter(line => line.includes('outside'))
  // to refuse a link it must be tried with O_NOFOLLOW, by its own name; its target is never named
  t.same(calls.filter(line => line.includes(outside)), [])
  await rm(own(), { recursive: true })
})
