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
