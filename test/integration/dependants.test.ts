import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, stat } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { copySpec, deleteSpec, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

interface Bench {
  agent: AgentProcess
  at: (image: string) => string
}

async function makeBench (t: Test): Promise<Bench> {
  const path = join(await temporaryDirectory(t), 'images')
  const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }] })
  return { agent, at: image => join(path, image) }
}

const overlayOf = async (base: string, overlay: string) => { await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', base, overlay) }

/** Serves an image as a guest would have it open. Resolves when it is open, with what ends it. */
async function serve (t: Test, image: string, ...options: string[]): Promise<() => Promise<void>> {
  const socket = `${image}.sock`
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'qemu-nbd', '--persistent', '--shared=4', '-k', socket, ...options, image], { stdio: 'ignore' })
  const end = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    child.kill()
    await once(child, 'exit')
  }
  t.teardown(end)
  await until(async () => (await stat(socket).catch(() => undefined))?.isSocket(), `${image} to be served`)
  return end
}

t.test('a base with overlays is neither deleted nor replaced, and the overlays are named', async t => {
  const { agent, at } = await makeBench(t)
  await makeDisk(at('new.raw'), 2 * MiB)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('base.qcow2'), '4M')
  await overlayOf('base.qcow2', at('one.qcow2'))
  await overlayOf('base.qcow2', at('two.qcow2'))
  const { ino } = await stat(at('base.qcow2'))
  const refusal = { status: 409, body: { code: 'has-children', children: ['one.qcow2', 'two.qcow2'], childCount: 2, detail: /one\.qcow2, two\.qcow2/ } }
  t.match(await agent.refused('delete', deleteSpec('base.qcow2')), refusal)
  const replace = copySpec('new.raw', 'base.qcow2', { onExisting: 'replace' })
  t.match(await agent.request('PUT', '/tasks/dry?dryRun=true', { body: replace }), refusal, 'a dry run says so, too')
  t.match(await agent.refused('replace', replace), refusal)
  t.equal((await stat(at('base.qcow2'))).ino, ino)
  t.match((await agent.image('local', 'base.qcow2')).body, { state: 'ok', fixes: Empty }, 'and it is as it was')

  for (const overlay of ['one.qcow2', 'two.qcow2']) t.match(await agent.done(`delete-${overlay}`, deleteSpec(overlay)), { state: 'succeeded' })
  t.match(await agent.done('replace-free', replace), { state: 'succeeded' })
  t.match(await agent.done('delete-free', deleteSpec('base.qcow2')), { state: 'succeeded' })
})

t.test('an overlay that is made during a copy keeps its base from being replaced at the end', async t => {
  const { agent, at } = await makeBench(t)
  await makeDisk(at('new.raw'), 16 * MiB)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('base.qcow2'), '4M')
  const { ino } = await stat(at('base.qcow2'))
  await agent.accept('replace', copySpec('new.raw', 'base.qcow2', { onExisting: 'replace', bandwidth: MiB }))
  await overlayOf('base.qcow2', at('late.qcow2'))
  await agent.request('PATCH', '/tasks/replace', { body: { bandwidth: null } })
  t.match(await agent.finished('replace'), { state: 'failed', error: { code: 'has-children', children: ['late.qcow2'] } })
  t.equal((await stat(at('base.qcow2'))).ino, ino)

  await agent.done('delete-late', deleteSpec('late.qcow2'))
  t.match(await agent.done('mend', { kind: 'storage.mendImage', domain: 'local', image: 'base.qcow2' }), { state: 'succeeded' }, 'the copy was whole')
  t.not((await stat(at('base.qcow2'))).ino, ino)
})

t.test('what another program has open is neither deleted nor replaced, if only to read it', async t => {
  const { agent, at } = await makeBench(t)
  await makeDisk(at('new.raw'), 2 * MiB)
  await makeDisk(at('disk.iso'), 2 * MiB)
  const refusal = { status: 409, body: { code: 'image-in-use' } }
  const isKept = async (t: Test, image: string, name: string) => {
    t.match(await agent.refused(`delete-${name}`, deleteSpec(image)), refusal, `delete: ${name}`)
    t.match(await agent.refused(`replace-${name}`, copySpec('new.raw', image, { onExisting: 'replace' })), refusal, `replace: ${name}`)
    t.ok(await stat(at(image)))
  }
  for (const [name, options] of [['attached', ['-r', '-f', 'raw']], ['written', ['-f', 'raw']]] as const) {
    const end = await serve(t, at('disk.iso'), ...options)
    await isKept(t, 'disk.iso', name)
    await end()
  }

  // the overlay is elsewhere: only that it is running shows
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('base.qcow2'), '4M')
  const elsewhere = join(await temporaryDirectory(t), 'top.qcow2')
  await overlayOf(at('base.qcow2'), elsewhere)
  const end = await serve(t, elsewhere, '-f', 'qcow2')
  await isKept(t, 'base.qcow2', 'base')
  await end()

  const handle = await open(at('disk.iso'))
  await isKept(t, 'disk.iso', 'reader')
  t.match((await agent.refused('named', deleteSpec('disk.iso'))).body.detail, new RegExp(`process ${process.pid} `), 'the program is named')
  await handle.close()
  t.match(await agent.done('delete', deleteSpec('disk.iso')), { state: 'succeeded' })
})

t.test('what is attached to a loop device is neither deleted nor replaced', { skip: unlessRoot }, async t => {
  const { agent, at } = await makeBench(t)
  await makeDisk(at('disk.iso'), 2 * MiB)
  const device = (await sh('losetup', '--show', '--read-only', '--find', at('disk.iso'))).trim()
  try {
    t.match(await agent.refused('delete', deleteSpec('disk.iso')), { body: { code: 'image-in-use', detail: new RegExp(device) } })
  } finally {
    await sh('losetup', '--detach', device)
  }
  t.match(await agent.done('delete-free', deleteSpec('disk.iso')), { state: 'succeeded' })
})

t.test('the source of a running copy is not deleted', async t => {
  const { agent, at } = await makeBench(t)
  await makeDisk(at('source.raw'), 8 * MiB)
  await agent.accept('copy', copySpec('source.raw', 'copy.raw', { bandwidth: MiB }))
  t.match(await agent.refused('delete', deleteSpec('source.raw')), { body: { code: 'resource-busy' } })
  await agent.request('PATCH', '/tasks/copy', { body: { bandwidth: null } })
  t.match(await agent.finished('copy'), { state: 'succeeded' })
})

t.test('a replaced image keeps its owner, mode, ACL, label and attributes; a new one gets those of its domain', { skip: unlessRoot }, async t => {
  const path = join(await temporaryDirectory(t), 'images')
  const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true, owner: { uid: 36, gid: 107 }, mode: '0640' }] })
  const at = (image: string) => join(path, image)
  const accessOf = async (image: string) => (await sh('stat', '-c', '%u:%g %a', at(image))).trim()
  const attributesOf = async (image: string) => (await sh('getfattr', '--dump', '--match=-', '--encoding=hex', '--absolute-names', at(image))).split('\n').slice(1)
  await makeDisk(at('new.raw'), 2 * MiB)
  for (const target of ['fresh.raw', 'fresh.qcow2', 'old.raw']) t.match(await agent.done(`copy-${target}`, copySpec('new.raw', target)), { state: 'succeeded' })
  t.match(await agent.done('create', { kind: 'storage.createImage', domain: 'local', image: 'made.raw', virtualSize: 4096 }), { state: 'succeeded' })
  for (const image of ['fresh.raw', 'fresh.qcow2', 'made.raw']) t.equal(await accessOf(image), '36:107 640', image)

  const list = '0x02000000' + '01000600ffffffff' + '02000600d2040000' + '04000000ffffffff' + '10000600ffffffff' + '20000000ffffffff'
  await sh('chown', '1234:2345', at('old.raw'))
  // an image is no program, whatever its bits say
  await sh('chmod', 'u+s,g+s', at('old.raw'))
  for (const [name, value] of [['user.note', 'mine'], ['user.empty', ''], ['security.selinux', 'system_u:object_r:virt_image_t:s0'], ['system.posix_acl_access', list]]) {
    await sh('setfattr', '-n', name ?? '', '-v', value ?? '', at('old.raw'))
  }
  const [access, attributes, { ino }] = [await accessOf('old.raw'), await attributesOf('old.raw'), await stat(at('old.raw'))]
  t.equal(attributes.filter(line => line !== '').length, 4)
  await makeDisk(at('newer.raw'), 3 * MiB)
  t.match(await agent.done('replace', copySpec('newer.raw', 'old.raw', { onExisting: 'replace' })), { state: 'succeeded' })
  t.not((await stat(at('old.raw'))).ino, ino, 'it is another file')
  t.match(access, /^1234:2345 6/)
  t.equal(await accessOf('old.raw'), access.replace(' 6', ' '))
  t.strictSame(await attributesOf('old.raw'), attributes)
})

t.test('a raw image is made in whole blocks, and its real size is told', async t => {
  const { agent, at } = await makeBench(t)
  const create = (image: string, virtualSize: number) => ({ kind: 'storage.createImage', domain: 'local', image, virtualSize })
  t.match(await agent.done('raw', create('a.raw', 7_000_000_000)), { state: 'succeeded', result: { virtualSize: 7_000_002_560 } })
  t.equal((await stat(at('a.raw'))).size, 7_000_002_560)
  t.match(await agent.done('exact', create('b.raw', 8192)), { result: { virtualSize: 8192 } })
  t.match(await agent.done('qcow2', create('c.qcow2', 7_000_000_000)), { result: { virtualSize: 7_000_000_000 } })
})

t.test('an image that is marked as corrupt is illegal, and no source', async t => {
  const { agent, at } = await makeBench(t)
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', at('bad.qcow2'), '4M')
  const file = await open(at('bad.qcow2'), 'r+')
  await file.write(Buffer.from([2]), 0, 1, 79)
  await file.close()
  t.match((await agent.image('local', 'bad.qcow2')).body, { state: 'illegal', detail: /marked as corrupt/ })
  t.match(await agent.refused('copy', copySpec('bad.qcow2', 'copy.raw')), { body: { code: 'image-invalid', detail: /marked as corrupt/ } })
})
