import { readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, makeOld, MiB, qcow2Header, restlessImage, sh, sha256 } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'

needs('strace')

t.setTimeout(300_000)

const top = await temporaryDirectory(t)
const domain = join(top, 'domain')
const secret = join(top, 'secret.raw')
const log = join(top, 'strace.log')
await sh('mkdir', domain)
// every file that the agent and whatever it starts opens, and every connection
const agent = await startAgent(t, {
  domains: [{ id: 'local', path: domain, create: true }],
  under: ['strace', '-f', '--seccomp-bpf', '-qq', '-s', '4096', '-e', 'trace=open,openat,openat2,connect,execve', '-o', log]
})

const at = (name: string) => join(domain, name)
await makeDisk(secret, MiB)

/** An overlay with any backing string: qemu-img would not make most of these. */
const overlay = async (name: string, backing: string, format?: string) => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at(name), '1M')
  await sh('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', backing, ...format === undefined ? [] : ['-F', format], at(name))
  await makeOld(at(name))
}
const file = async (name: string, content: Buffer) => {
  await writeFile(at(name), content)
  await makeOld(at(name))
}

t.test('a hostile image is refused with a clear problem, and nothing outside the domain is opened', async t => {
  await overlay('passwd.qcow2', '/etc/passwd', 'raw')
  await overlay('json.qcow2', `json:{"driver":"raw","file":{"driver":"file","filename":"${secret}"}}`, 'raw')
  await overlay('nbd.qcow2', 'nbd:127.0.0.1:10809', 'raw')
  await overlay('dots.qcow2', '../secret.raw', 'raw')
  await sh('ln', '-s', secret, at('link.raw'))
  await overlay('by-link.qcow2', 'link.raw', 'raw')
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=${secret},data_file_raw=on`, at('data-file.qcow2'), '1M')
  await overlay('over-data-file.qcow2', 'data-file.qcow2', 'qcow2')
  await overlay('loop.qcow2', 'loop.qcow2', 'qcow2')
  await file('eib.qcow2', qcow2Header({ virtualSize: 2n ** 63n }))
  // about 9 PB with clusters of 2 MiB: a table of 34 GB, and a file of holes that is long enough for it
  await file('petabytes.qcow2', qcow2Header({ virtualSize: Number.MAX_SAFE_INTEGER - 511, clusterBits: 21, l1Size: 0xffffffff }))
  await truncate(at('petabytes.qcow2'), 2 ** 36)
  await file('short.qcow2', qcow2Header().subarray(0, 60))
  await file('header-only.qcow2', qcow2Header().subarray(0, 104))
  await file('noise.qcow2', Buffer.from('QFI\xfb'.repeat(10_000), 'latin1'))

  const before = (await listing(domain)).filter(line => !line.startsWith('.vdsm-tasks/leases'))
  for (const [image, words] of [
    ['passwd', /"\/etc\/passwd" does not lie beside it/], ['json', /does not lie beside it/], ['nbd', /nbd:127\.0\.0\.1:10809/], ['dots', /does not lie beside it/],
    ['by-link', /link\.raw is not a regular file/], ['data-file', /in another file/], ['over-data-file', /in another file/], ['loop', /loop/], ['eib', /9223372036854775808/],
    ['petabytes', /more than qcow2 allows/], ['short', /too short/], ['header-only', /cut off/], ['noise', /qcow2 version/]
  ] as const) {
    const { status, body } = await agent.refused(image, copySpec(`${image}.qcow2`, 'copy.raw'))
    t.match([status, body.code], [422, 'image-invalid'], `${image}: ${body.detail}`)
    t.match(body.detail, words)
  }
  t.same((await listing(domain)).filter(line => !line.startsWith('.vdsm-tasks/leases')), before, 'nothing was changed')
  for (const image of ['passwd.qcow2', 'eib.qcow2', 'data-file.qcow2']) {
    t.equal((await agent.image('local', image)).status, 200, 'a look at a hostile image is an answer')
  }
  t.match((await agent.image('local', 'eib.qcow2')).body, { state: 'illegal', detail: /9223372036854775808/ })
  t.match((await agent.image('local', 'header-only.qcow2')).body, { state: 'illegal', detail: /cut off/ })
})

t.test('of an image that was cut off nothing is taken for zeros', async t => {
  const [table, data] = ['cut-table.qcow2', 'cut-data.qcow2'] as const
  for (const [image, megabytes, writes] of [[table, 600, ['0', '590']], [data, 20, ['0', '10']]] as const) {
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at(image), `${megabytes}M`)
    await sh('qemu-io', '-f', 'qcow2', ...writes.flatMap(from => ['-c', `write -P 7 ${from}M 4M`]), at(image))
    // the second table of clusters and the data that it leads to are in the second half of the one, data alone in that of the other
    await truncate(at(image), Math.ceil((await stat(at(image))).size / 2))
    await makeOld(at(image))
  }
  t.match(await agent.refused('cut-table', copySpec(table, 'from-cut.raw')), { status: 422, body: { code: 'image-invalid', detail: /cut-table\.qcow2.*cut off.*a table of its clusters/ } })
  const { status, body } = await agent.refused('cut-data', copySpec(data, 'from-cut.raw'))
  t.match({ status, body }, { status: 422, body: { code: 'image-invalid', detail: /cut-data\.qcow2.*cut off: data of it lies/ } })
  t.equal((await agent.image('local', 'from-cut.raw')).status, 404, 'nothing was begun')
})

t.test('a raw image is raw whatever it begins with: its copy is the same byte for byte', async t => {
  const trojan = Buffer.concat([await readFile(at('passwd.qcow2')), Buffer.alloc(MiB, 7)])
  await file('trojan.raw', trojan)
  await file('trojan.img', trojan)
  t.match(await agent.done('trojan', copySpec('trojan.raw', 'trojan-copy.raw', { verify: true })), { state: 'succeeded', result: { bytesTotal: trojan.length } })
  t.equal(await sha256(at('trojan-copy.raw')), await sha256(at('trojan.raw')))
  t.match(await agent.done('trojan-2', copySpec('trojan.img', 'trojan-copy.qcow2')), { state: 'succeeded' })
  t.equal(await compare({ path: at('trojan.raw'), format: 'raw' }, { path: at('trojan-copy.qcow2'), format: 'qcow2' }), identical)
  t.match(await agent.done('trojan-3', copySpec('trojan-copy.qcow2', 'trojan-back.raw')), { state: 'succeeded' })
  t.equal(await compare({ path: at('trojan.raw'), format: 'raw' }, { path: at('trojan-back.raw'), format: 'raw' }), identical)
  // as a backing file, too
  await overlay('over-trojan.qcow2', 'trojan.raw', 'raw')
  t.match(await agent.done('trojan-4', copySpec('over-trojan.qcow2', 'over-trojan-copy.raw')), { state: 'succeeded' })
  t.equal(await sha256(at('over-trojan-copy.raw')), await sha256(await first(at('trojan.raw'))))
})

t.test('a little image with an endless block status costs a few looks, and can be canceled', async t => {
  await file('restless.qcow2', restlessImage(1024 * MiB))
  t.match(await agent.done('restless', copySpec('restless.qcow2', 'restless-copy.raw')), { state: 'succeeded', result: { bytesTotal: 1024 * MiB, bytesMoved: 0 } })
  t.equal(await compare({ path: at('restless.qcow2'), format: 'qcow2' }, { path: at('restless-copy.raw'), format: 'raw' }), identical)
  await file('very-restless.qcow2', restlessImage(64 * 1024 * MiB))
  await agent.accept('very-restless', copySpec('very-restless.qcow2', 'very-restless-copy.raw'))
  await agent.request('DELETE', '/tasks/very-restless')
  t.match(await agent.finished('very-restless'), { state: 'canceled' })
})

t.test('nothing outside was opened by anybody, and whoever parses an image is confined', async t => {
  await agent.kill()
  const lines = (await readFile(log, 'utf8')).split('\n')
  const parsers = lines.filter(line => /execve\("[^"]*\/perl", \["perl", "[^"]*confine\.pl"/.test(line) && !line.includes('ENOENT'))
  const infos = lines.filter(line => /execve\("[^"]*\/qemu-img", \["qemu-img", "(info|map)"/.test(line) && !line.includes('ENOENT'))
  t.ok(infos.length > 10, `${infos.length} looks`)
  const GiB = 1024 * MiB
  t.same(infos.filter(line => {
    const files = new Set(line.match(/\/proc\/self\/fd\/\d+/g)).size
    const memory = `"limit=9:${GiB + files * 64 * MiB}"`
    return !parsers.some(parser => parser.split(' ')[0] === line.split(' ')[0] && parser.includes('"limit=0:30:35"') && parser.includes(memory))
  }), [], 'each within 30 s of processor time, and 1 GiB of memory and 64 MiB for each file')
  // the gluster command is a script, whose interpreter reads /etc/passwd for reasons of its own
  const gluster = new Set(lines.filter(line => /execve\("[^"]*(gluster|python)/.test(line)).map(line => line.split(' ')[0]))
  const opened = lines.filter(line => !gluster.has(line.split(' ')[0])).flatMap(line => /open(?:at2?)?\(.*?"([^"]*)"/.exec(line)?.[1] ?? [])
  t.ok(opened.some(path => path.includes('/proc/self/fd/')), 'it was looked at')
  t.ok(lines.some(line => line.includes('passwd.qcow2')), 'also at the hostile ones')
  t.same(opened.filter(path => path === '/etc/passwd' || path.includes('secret.raw') || /json:|nbd:/.test(path)), [])
  const connected = lines.filter(line => line.includes('connect(') && !line.includes('AF_UNIX'))
  t.same(connected, [])
})

/** The first megabyte of a file, as a file. */
async function first (path: string): Promise<string> {
  await writeFile(join(top, 'first'), (await readFile(path)).subarray(0, MiB))
  return join(top, 'first')
}
