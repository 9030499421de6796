import { spawn } from 'node:child_process'
import { cp, mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, mendSpec, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

const top = await temporaryDirectory(t)
const domain = join(top, 'domain')
const outside = join(top, 'outside')
const unmounted = join(top, 'unmounted')
const foreign = join(top, 'foreign')
for (const path of [domain, outside, unmounted, join(foreign, '.vdsm-tasks')]) await mkdir(path, { recursive: true })
await writeFile(join(foreign, '.vdsm-tasks/domain.json'), '{"id":"theirs"}')
const agent = await startAgent(t, {
  domains: [
    { id: 'local', path: domain, create: true }, { id: 'unmounted', path: unmounted }, { id: 'foreign', path: foreign, create: true }, { id: 'missing', path: join(top, 'missing') }
  ]
})

const at = (name: string) => join(domain, name)
await makeDisk(at('source.raw'), 2 * MiB)
await makeDisk(join(outside, 'secret.raw'), MiB)
await writeFile(at('taken.raw'), 'taken')
await writeFile(at('nameless'), 'x')
await writeFile(at('really-raw.qcow2'), 'not a qcow2 image at all'.repeat(100))
await mkdir(at('folder.raw'))
await symlink('source.raw', at('link.raw'))
await symlink(join(outside, 'secret.raw'), at('link-out.raw'))
await symlink('nowhere', at('dangling.raw'))
await sh('mkfifo', at('fifo.raw'))
await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('guest.qcow2'), '1M')
// both were copied for good once: nothing is said of them below
await agent.done('warm-up', copySpec('source.raw', 'done.raw'))

const create = (image: string, more: object = {}) => ({ kind: 'storage.createImage', domain: 'local', image, virtualSize: MiB, ...more })
const copyFrom = (domain: string, image: string, more: object = {}) => copySpec('', 'new.raw', { source: { domain, image, ...more } })
const copyTo = (domain: string, image: string, more: object = {}) => copySpec('source.raw', '', { target: { domain, image, ...more } })

/** A look at who holds a lease makes its file. Everything else counts, the times of the directories, too. */
const everything = async () => (await listing(top)).filter(line => !line.startsWith('domain/.vdsm-tasks/leases'))

const cases: Array<[what: string, spec: unknown, status: number, code: string]> = [
  ['no body', undefined, 400, 'bad-request'],
  ['no JSON', '{"kind":', 400, 'bad-request'],
  ['a list', [], 400, 'bad-request'],
  ['null', 'null', 400, 'bad-request'],
  ['no kind', { domain: 'local' }, 400, 'bad-request'],
  ['an unknown kind', { kind: 'storage.eatImage', domain: 'local', image: 'a.raw' }, 400, 'bad-request'],
  ['an unknown field', copySpec('source.raw', 'new.raw', { fast: true }), 400, 'bad-request'],
  ['an unknown field of the target', copyTo('local', 'new.raw', { alocation: 'sparse' }), 400, 'bad-request'],
  ['a field of another kind', mendSpec('new.raw', { verify: true }), 400, 'bad-request'],
  ['a source that is a text', copySpec('source.raw', 'new.raw', { source: 'source.raw' }), 400, 'bad-request'],
  ['no target', { kind: 'storage.copyImage', source: { domain: 'local', image: 'source.raw' } }, 400, 'bad-request'],
  ['a bandwidth that is a text', copySpec('source.raw', 'new.raw', { bandwidth: '5' }), 400, 'bad-request'],
  ['bandwidth 0', copySpec('source.raw', 'new.raw', { bandwidth: 0 }), 400, 'bad-request'],
  ['a bandwidth of null', copySpec('source.raw', 'new.raw', { bandwidth: null }), 400, 'bad-request'],
  ['verify: 1', copySpec('source.raw', 'new.raw', { verify: 1 }), 400, 'bad-request'],
  ['an unknown format', copyTo('local', 'new', { format: 'vmdk' }), 400, 'bad-request'],
  ['an unknown allocation', copyTo('local', 'new.raw', { allocation: 'thick' }), 400, 'bad-request'],
  ['a size below zero', create('new.raw', { virtualSize: -512 }), 400, 'bad-request'],
  ['a size that is no multiple of 512', create('new.raw', { virtualSize: 1000 }), 400, 'bad-request'],
  ['a size that is a text', create('new.raw', { virtualSize: '1048576' }), 400, 'bad-request'],
  ['a size beyond 2^53', '{"kind":"storage.createImage","domain":"local","image":"new.raw","virtualSize":9007199254741504}', 400, 'bad-request'],
  ...['/etc/passwd', '../outside/secret.raw', 'a/b.raw', '..', '.', '', '.hidden.raw', '.vdsm-tasks', '-x.raw', 'a\0b.raw', 'a\nb.raw', 'ä.raw', 'json:{}', 'x'.repeat(201)].flatMap((name): typeof cases => [
    [`a source called ${JSON.stringify(name.slice(0, 30))}`, copyFrom('local', name), 400, 'bad-request'],
    [`a target called ${JSON.stringify(name.slice(0, 30))}`, copyTo('local', name), 400, 'bad-request'],
    [`deletion of ${JSON.stringify(name.slice(0, 30))}`, deleteSpec(name), 400, 'bad-request']
  ]),
  ['a domain called ..', copyFrom('..', 'source.raw'), 400, 'bad-request'],
  ['a name that tells no format', copyFrom('local', 'nameless'), 400, 'format-unknown'],
  ['a target name that tells no format', copyTo('local', 'new'), 400, 'format-unknown'],
  ['a target name that contradicts its format', copyTo('local', 'new.raw', { format: 'qcow2' }), 400, 'format-conflict'],
  ['target equal to source', copySpec('source.raw', 'source.raw'), 400, 'same-image'],
  ['a source domain that does not exist', copyFrom('nowhere', 'source.raw'), 404, 'domain-not-found'],
  ['a target domain that does not exist', copyTo('nowhere', 'new.raw'), 404, 'domain-not-found'],
  ['mending in a domain that does not exist', mendSpec('new.raw', { domain: 'nowhere' }), 404, 'domain-not-found'],
  ['a source that does not exist', copyFrom('local', 'nothing.raw'), 404, 'image-not-found'],
  ['deletion of what does not exist', deleteSpec('nothing.raw'), 404, 'image-not-found'],
  ['mending what does not exist', mendSpec('nothing.raw'), 404, 'copy-not-found'],
  ['mending what is no copy', mendSpec('taken.raw'), 409, 'already-complete'],
  ['a target that exists', copySpec('source.raw', 'taken.raw'), 409, 'target-exists'],
  ['a target that is a folder', copySpec('source.raw', 'folder.raw'), 409, 'target-exists'],
  ['a target that is a link', copySpec('source.raw', 'link-out.raw'), 409, 'target-exists'],
  ['a target that is a dangling link', copySpec('source.raw', 'dangling.raw'), 409, 'target-exists'],
  ['a new image of a name that exists', create('taken.raw'), 409, 'image-exists'],
  ['a new image of the name of a dangling link', create('dangling.raw'), 409, 'image-exists'],
  ['a source that is a link', copyFrom('local', 'link.raw'), 422, 'image-invalid'],
  ['a source that is a link out', copyFrom('local', 'link-out.raw'), 422, 'image-invalid'],
  ['a source that is a dangling link', copyFrom('local', 'dangling.raw'), 422, 'image-invalid'],
  ['a source that is a folder', copyFrom('local', 'folder.raw'), 422, 'image-invalid'],
  ['a source that is a FIFO', copyFrom('local', 'fifo.raw'), 422, 'image-invalid'],
  ['a source that is not of its format', copyFrom('local', 'really-raw.qcow2'), 422, 'image-invalid'],
  ['deletion of a link', deleteSpec('link.raw'), 422, 'image-invalid'],
  ['deletion of a folder', deleteSpec('folder.raw'), 422, 'image-invalid'],
  ['deletion of a FIFO', deleteSpec('fifo.raw'), 422, 'image-invalid'],
  ['a source domain that is not mounted', copyFrom('unmounted', 'source.raw'), 503, 'domain-unavailable'],
  ['a target domain that is not mounted', copyTo('unmounted', 'new.raw'), 503, 'domain-unavailable'],
  ['creation in a domain that is not mounted', create('new.raw', { domain: 'unmounted' }), 503, 'domain-unavailable'],
  ['a target domain that is another one', copyTo('foreign', 'new.raw'), 503, 'domain-unavailable'],
  ['a target domain without a directory', copyTo('missing', 'new.raw'), 503, 'domain-unavailable']
]

t.test('each bad command has its own answer and changes nothing', async t => {
  const before = await everything()
  for (const [index, [what, spec, status, code]] of cases.entries()) {
    const reply = await agent.refused(`bad-${index}`, spec)
    t.match([reply.status, reply.body?.code], [status, code], `${what}: ${reply.body?.detail}`)
    t.match(reply.headers['content-type'], /^application\/problem\+json/)
    t.ok(reply.body.detail.length > 10, 'in words')
    if (status === 503) t.match(reply.headers['retry-after'], /^\d+$/)
  }
  t.same(await everything(), before)
})

t.test('an image that the storage cannot hold is refused, and what was tried is taken back', async t => {
  const files = async () => (await everything()).filter(line => !line.includes(' directory '))
  const before = await files()
  for (const [what, spec, status, code] of [
    ['a raw image larger than any file may be', create('new.raw', { virtualSize: 2 ** 53 - 4096 }), 422, 'file-too-large'],
    ['a raw image larger than that when it is rounded up', create('new.raw', { virtualSize: 2 ** 53 - 512 }), 422, 'file-too-large'],
    ['a reserved image larger than the storage', create('new.raw', { virtualSize: 2 ** 50, allocation: 'preallocated' }), 507, 'no-space'],
    ['a qcow2 image larger than its tables may be', create('new.qcow2', { virtualSize: 2 ** 53 - 512 }), 422, 'file-too-large']
  ] as const) {
    t.match(await agent.refused(what.replaceAll(' ', '-'), spec), { status, body: { code } }, what)
    t.same(await files(), before)
  }
})

t.test('an id that is none is refused', async t => {
  const before = await everything()
  for (const id of ['', '-x', '.x', 'a%2Fb', 'a%00b', 'a%20b', '%C3%A4', 'x'.repeat(256)]) {
    const { status, body } = await agent.refused(id, create('new.raw'))
    t.match([status, body.code], id === '' ? [/40[04]/, String] : [400, 'bad-request'], JSON.stringify(id.slice(0, 20)))
  }
  t.same(await everything(), before)
})

t.test('reads of bad names are refused, too', async t => {
  const before = await everything()
  for (const [path, status, code] of [
    ['local/images/nothing.raw', 404, 'image-not-found'],
    ['nowhere/images/a.raw', 404, 'domain-not-found'],
    ['local/images/..%2Foutside%2Fsecret.raw', 400, 'bad-request'],
    ['local/images/%2Fetc%2Fpasswd', 400, 'bad-request'],
    ['local/images/.vdsm-tasks', 400, 'bad-request'],
    ['local/images/link-out.raw', 422, 'image-invalid'],
    ['local/images/folder.raw', 422, 'image-invalid'],
    ['local/images/fifo.raw', 422, 'image-invalid'],
    ['unmounted/images/a.raw', 503, 'domain-unavailable'],
    ['foreign/images', 503, 'domain-unavailable']
  ] as const) {
    const reply = await agent.request<{ code: string }>('GET', `/domains/${path}`)
    t.match([reply.status, reply.body.code], [status, code], path)
  }
  const { body: { items } } = await agent.request<{ items: Array<{ image: string }> }>('GET', '/domains/local/images')
  t.same(items.map(({ image }) => image), ['done.raw', 'guest.qcow2', 'nameless', 'really-raw.qcow2', 'source.raw', 'taken.raw'], 'the list has files only')
  t.match(await agent.request('GET', '/domains'), { body: { items: [{ state: 'available' }, { state: 'unavailable' }, { state: 'unavailable', detail: /theirs/ }, { state: 'unavailable' }] } })
  t.same(await everything(), before)
})

t.test('an image that a guest has open is neither copied nor deleted', async t => {
  const guest = spawn('qemu-io', ['-f', 'qcow2', at('guest.qcow2')], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.teardown(() => { guest.kill('SIGKILL') })
  guest.stdin.write('read 0 512\n')
  for await (const text of guest.stdout.iterator({ destroyOnReturn: false })) if (String(text).includes('read 512/512')) break
  const before = await everything()
  t.match(await agent.refused('from-guest', copySpec('guest.qcow2', 'new.raw')), { status: 409, body: { code: 'source-in-use' } })
  t.match(await agent.refused('delete-guest', deleteSpec('guest.qcow2')), { status: 409, body: { code: 'image-in-use' } })
  t.same(await everything(), before)
  guest.stdin.end()
  await until(() => guest.exitCode !== null)
  t.match(await agent.done('from-guest', copySpec('guest.qcow2', 'guest-copy.raw')), { state: 'succeeded' })
})

t.test('a domain that is unmounted while the agent runs is noticed, left alone, and found again', async t => {
  await cp(join(foreign), join(top, 'other'), { recursive: true })
  await rename(domain, `${domain}-away`)
  await mkdir(domain)
  for (const [id, spec] of [['copy', copySpec('source.raw', 'new.raw')], ['create', create('new.raw')], ['delete', deleteSpec('source.raw')], ['mend', mendSpec('new.raw')]] as const) {
    t.match(await agent.refused(`away-${id}`, spec), { status: 503, body: { code: 'domain-unavailable' } }, id)
  }
  t.same(await listing(domain), [], 'nobody fills an empty mount point')
  await rm(domain, { recursive: true })
  await rename(join(top, 'other'), domain)
  t.match(await agent.refused('other', create('new.raw')), { status: 503, body: { code: 'domain-unavailable', detail: /theirs/ } })
  await rename(domain, join(top, 'other'))
  await rename(`${domain}-away`, domain)
  t.match(await agent.done('back', copySpec('source.raw', 'new.raw')), { state: 'succeeded' })
})
