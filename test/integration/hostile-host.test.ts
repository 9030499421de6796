import { once } from 'node:events'
import { mkdir, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import process from 'node:process'
import t from 'tap'
import { deleteSpec, mendSpec, copySpec, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'
import { domainMetadata, makeOvirtDomain, metaText, metaValues, putVolume, uuid } from '../helpers/ovirt.ts'
import { recordOf } from '../helpers/records.ts'

needs('strace')

t.setTimeout(180_000)

// Another host that shares the domain has written these. It may spoil its images; it must not lead this agent elsewhere.
const top = await temporaryDirectory(t)
const domain = join(top, 'domain')
const outside = join(top, 'outside')
const log = join(top, 'strace.log')
for (const path of [domain, outside]) await mkdir(path)
const ovirt = uuid('domain')
const shared = await makeOvirtDomain(top, ovirt)
const agent = await startAgent(t, {
  domains: [{ id: 'local', path: domain, create: true }, { id: ovirt, path: shared, layout: 'ovirt' }],
  under: ['strace', '-f', '--seccomp-bpf', '-qq', '-yy', '-s', '4096', '-e', 'trace=open,openat,openat2,link,linkat,rename,renameat,renameat2,unlink,unlinkat,execve', '-o', log]
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
  'ranges.raw': { ...recordOf({ image: 'ranges.raw' }), done: [[-5, 5], [10, 2]] }
}

t.test('a record of rubbish, or with paths that lead outside, is refused with a problem', async t => {
  // a few at a time: each has a process of its own, under strace
  const left = Object.entries(rubbish)
  const some = async () => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) await refused(...next)
  }
  const refused = async (image: string, content: unknown) => {
    await record(image, content)
    const { status, body } = await agent.refused(`mend-${image}`, mendSpec(image))
    t.match([status, body.code], [422, 'record-invalid'], `${image}: ${body.detail}`)
  }
  await Promise.all([some(), some(), some(), some()])
  for (const image of ['noise.raw', 'copy-id.raw']) t.match(await agent.refused(`onto-${image}`, copySpec('source.raw', image)), { status: 422, body: { code: 'record-invalid' } })
  // a later version may have added it: it is ignored
  await record('more.raw', { ...recordOf({ image: 'more.raw' }), command: 'rm -rf /' })
  t.match(await agent.refused('mend-more.raw', mendSpec('more.raw')), { status: 409, body: { code: 'source-changed' } })
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

t.test('devices, sockets and files without end are not opened, or not read to their end', async t => {
  const server = createServer().listen(join(domain, 'socket.raw'))
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  if (process.getuid?.() === 0) {
    for (const at of [join(domain, 'device.raw'), own('copies', 'device-record.raw.json'), own('leases', 'device-lease.raw'), own('parts', '1b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f')]) await sh('mknod', at, 'c', '1', '3')
    for (const [image, spec] of [['device.raw', copySpec('device.raw', 'x.raw')], ['device-record.raw', mendSpec('device-record.raw')], ['device-lease.raw', copySpec('source.raw', 'device-lease.raw')]] as const) {
      const { status, body } = await agent.refused(image, spec)
      t.match([status, body.code], [422, /^(image|record)-invalid$/], `${image}: ${body.detail}`)
    }
    await record('device-part.raw', recordOf({ image: 'device-part.raw', copyId: '1b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f' }))
    t.match(await agent.refused('device-part', mendSpec('device-part.raw')), { status: 409, body: { code: 'source-changed' } }, 'whoever forges a record does not know the times of the source')
  }
  t.match(await agent.refused('socket', copySpec('socket.raw', 'x.raw')), { status: 422, body: { code: 'image-invalid' } })
  await record('endless.raw', '{')
  await truncate(own('copies', 'endless.raw.json'), 2 ** 40)
  t.match(await agent.refused('endless', mendSpec('endless.raw')), { status: 422, body: { code: 'record-invalid' } })
})

t.test('names that no agent would choose are nobody\'s images', async t => {
  for (const name of ['a\nb.raw', '\u001b[2J.raw', ' .raw', '-rf', '%2e%2e', '\u{1f4a9}.raw', 'x'.repeat(250)]) {
    await writeFile(join(domain, name), '')
    await writeFile(own('copies', `${name.slice(0, 200)}.json`), '{}')
    await writeFile(own('parts', name), '')
  }
  const { body } = await agent.request<{ items: Array<{ image: string }> }>('GET', '/domains/local/images?limit=1000')
  t.same(body.items.map(({ image }) => image), ['source.raw'])
  t.notMatch(JSON.stringify((await agent.request('GET', '/domains/local/fixes')).body), /a.nb\.raw|u001b/)
})

t.test('a record whose host or task would steer a terminal is refused', async t => {
  for (const [image, change] of [['steer-host.raw', { host: { id: 'node1\u001b[2J' } }], ['steer-url.raw', { host: { id: 'node1', url: 'http://x\r\nX: y' } }], ['steer-task.raw', { taskId: '\u009b2J' }], ['steer-time.raw', { createdAt: 'now\n' }]] as const) {
    await record(image, { ...recordOf({ image }), ...change })
    t.match(await agent.refused(image, mendSpec(image)), { status: 422, body: { code: 'record-invalid' } }, image)
  }
})

t.test('an oVirt domain whose files lead outside is refused with a problem', async t => {
  const image = uuid('image')
  const volume = (name: string) => uuid(name)
  const at = (...path: string[]) => join(shared, 'images', ...path)
  const raw = async (path: string) => { await makeDisk(path, MiB, { blockBytes: 65536 }) }
  await putVolume(shared, ovirt, image, volume('good'), raw)
  const copyFrom = (image: string, name: string) => copySpec('', 'new.raw', { source: { domain: ovirt, image, volume: volume(name) } })
  for (const [name, put] of Object.entries<(path: string) => Promise<unknown>>({
    'data-link': async path => { await symlink(join(outside, 'secret.raw'), path) },
    'data-fifo': async path => await sh('mkfifo', path),
    'data-folder': async path => { await mkdir(path) }
  })) {
    const own = uuid(`image ${name}`)
    await mkdir(at(own))
    await put(at(own, volume(name)))
    await writeFile(at(own, `${volume(name)}.meta`), metaText(metaValues(ovirt, own)))
    const { status, body } = await agent.refused(name, copyFrom(own, name))
    t.match([status, body.code], [422, 'image-invalid'], `${name}: ${body.detail}`)
  }
  for (const [name, put] of Object.entries<(path: string) => Promise<unknown>>({
    'meta-link': async path => { await symlink(join(outside, 'secret.raw'), path) },
    'meta-fifo': async path => await sh('mkfifo', path),
    'meta-endless': async path => { await writeFile(path, metaText(metaValues(ovirt, image))); await truncate(path, 2 ** 40) },
    'meta-parent': async path => { await writeFile(path, metaText(metaValues(ovirt, image, { PUUID: '../../../outside/secret.raw' }))) },
    'meta-domain': async path => { await writeFile(path, metaText(metaValues(uuid('other'), image))) }
  })) {
    const own = uuid(`image ${name}`)
    await mkdir(at(own))
    await raw(at(own, volume(name)))
    await put(at(own, `${volume(name)}.meta`))
    const { status, body } = await agent.refused(name, copyFrom(own, name))
    t.match([status, body.code], [422, 'metadata-invalid'], `${name}: ${body.detail}`)
  }
  await symlink(outside, at(uuid('linked image')))
  t.match(await agent.refused('linked-image', copyFrom(uuid('linked image'), 'good')), { status: 422, body: { code: 'image-invalid' } })
  const crowd = uuid('crowd')
  await mkdir(at(crowd))
  await Promise.all(Array.from({ length: 4001 }, async (_, index) => { await writeFile(at(crowd, uuid(`crowd ${index}`)), '') }))
  t.match(await agent.request('GET', `/domains/${ovirt}/images/${crowd}`), { status: 422, body: { code: 'image-invalid' } })
  for (const what of ['copies', 'fixes', 'images']) t.ok((await agent.request('GET', `/domains/${ovirt}/${what}`)).status < 500, what)
  await agent.done('good', copySpec('', 'good.raw', { source: { domain: ovirt, image, volume: volume('good') } }))
  await rm(join(shared, 'dom_md/metadata'))
  await symlink(join(outside, 'metadata'), join(shared, 'dom_md/metadata'))
  await writeFile(join(outside, 'metadata'), domainMetadata(ovirt))
  t.match(await agent.refused('metadata', copyFrom(image, 'good')), { status: /422|503/ })
  await rm(join(outside, 'metadata'))
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
  // of what was opened, strace tells path and kind
  t.same((await readFile(log, 'utf8')).split('\n').filter(line => /= \d+<\//.test(line) && line.slice(line.lastIndexOf(' = ')).includes(top) && /<(char|block|pipe|socket)/.test(line.slice(line.lastIndexOf(' = ')))), [], 'no device was opened')
  await rm(own(), { recursive: true })
})
