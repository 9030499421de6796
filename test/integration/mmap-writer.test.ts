import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { startAgent, stalled } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sh } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'
import { fillQcow2, makeOvirtDomain, putVolume, uuid } from '../helpers/ovirt.ts'

needs('gcc', 'mkfs.xfs')

// A program that stores through mmap into pages that are dirty already leaves the time of modification as it is. No copy
// of a source that is written so may be complete. On a disk file system: tmpfs has no clean pages.

t.setTimeout(300_000)

const skip = unlessRoot
const directory = await temporaryDirectory(t)
const program = join(directory, 'mmap-writer')
await sh('gcc', '-O1', '-o', program, fileURLToPath(new URL('../helpers/mmap-writer.c', import.meta.url)))

/** The program that stores into a file. */
class Writer {
  readonly #child: ChildProcess
  readonly #path: string

  private constructor (child: ChildProcess, path: string) {
    this.#child = child
    this.#path = path
  }

  /** Has made these pages of the file dirty; the file looks as if that had been long ago. */
  static async start (t: Test, path: string, offsets: readonly number[]): Promise<Writer> {
    const writer = new Writer(spawn(program, [path], { stdio: ['pipe', 'pipe', 'inherit'] }), path)
    t.teardown(async () => { await writer.end() })
    for (const offset of offsets) await writer.tell(`store ${offset} 1`)
    await makeOld(path)
    return writer
  }

  async tell (command: string): Promise<void> {
    const { stdin, stdout } = this.#child
    if (stdin === null || stdout === null) throw new Error('it has no pipes')
    stdin.write(`${command}\n`)
    const lines = createInterface({ input: stdout })
    await once(lines, 'line')
    lines.close()
  }

  async modified (): Promise<number> {
    return (await stat(this.#path)).mtimeMs
  }

  async end (): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    this.#child.kill('SIGKILL')
    await once(this.#child, 'exit')
  }
}

const [one, two] = [uuid('mmap one'), uuid('mmap two')]
const [image, base, leaf] = [uuid('mmap disk'), uuid('mmap base'), uuid('mmap leaf')]
const size = 16 * MiB
/** A page that is copied in the first window, and one in the last. */
const [early, late] = [5000, size - 5000]

/** An agent whose domains are on an XFS of its own, that can share data between files. */
async function start (t: Test, name: string, { clone = false }: { clone?: boolean } = {}) {
  const space = await MountSpace.make(t)
  const at = join(directory, name)
  await mkdir(at)
  await space.mountFile(join(directory, `${name}.img`), 600 * MiB, ['mkfs.xfs', '-q', '-m', 'reflink=1'], at)
  const root = space.path(at)
  for (const id of [one, two]) await makeOvirtDomain(root, id)
  const agent = await startAgent(t, {
    domains: [{ id: 'local', path: join(at, 'local'), create: true }, { id: one, path: join(at, one), layout: 'ovirt' }, { id: two, path: join(at, two), layout: 'ovirt' }],
    copy: { clone, parallelWindows: 1, windowSeconds: 0.5 },
    under: space.enter
  })
  return { agent, root, path: (image: string) => join(root, 'local', image) }
}

t.test('a store into a dirty page does not show in the time of modification, but does once the page is clean', { skip }, async t => {
  const { path } = await start(t, 'premise')
  await makeDisk(path('disk.raw'), size)
  const writer = await Writer.start(t, path('disk.raw'), [early])
  const before = await writer.modified()
  await writer.tell(`store ${early} 2`)
  t.equal(await writer.modified(), before, 'this is what hides it')
  await sh('sync', '-d', path('disk.raw'))
  await writer.tell(`store ${early} 3`)
  t.not(await writer.modified(), before)
})

t.test('a source that is stored into through mmap while it is copied has changed', { skip }, async t => {
  const { agent, path, root } = await start(t, 'copied')
  await makeDisk(path('disk.raw'), size)
  await makeDisk(path('base.img'), size)
  await fillQcow2(path('overlay.qcow2'), size, { volume: 'base.img', format: 'raw' }, [[0, 65536, 3]])
  const volume = (volume: string) => join(root, one, 'images', image, volume)
  await putVolume(join(root, one), one, image, base, async file => { await makeDisk(file, size) }, { CAP: size, VOLTYPE: 'INTERNAL' })
  // so much that its copy can be met while it runs
  const makeLeaf = async (file: string) => { await fillQcow2(file, size, { volume: base, format: 'raw' }, [[0, 6 * MiB, 3]]) }
  await putVolume(join(root, one), one, image, leaf, makeLeaf, { CAP: size, FORMAT: 'COW', PUUID: base })
  await makeOld(path('overlay.qcow2'))
  const flat = { domain: 'local', image: 'copy.raw' }
  for (const [what, file, source, target, more] of [
    ['a raw image', path('disk.raw'), { domain: 'local', image: 'disk.raw' }, flat, {}],
    ['a raw image that is verified', path('disk.raw'), { domain: 'local', image: 'disk.raw' }, flat, { verify: true }],
    ['the base of an image', path('base.img'), { domain: 'local', image: 'overlay.qcow2' }, flat, {}],
    ['the base of a volume', volume(base), { domain: one, image }, flat, {}],
    ['the base of a chain that is kept', volume(base), { domain: one, image }, { domain: two, image }, { chain: 'keep' }],
    ['the leaf of a chain that is kept', volume(leaf), { domain: one, image }, { domain: two, image }, { chain: 'keep' }]
  ] as const) {
    for (const offset of what === 'a raw image' ? [early, late] : [early]) {
      const name = `${what}, at ${offset}`
      const at = file === volume(leaf) ? 70_000 : offset
      const writer = await Writer.start(t, file, [at])
      const id = name.replaceAll(/\W/g, '-')
      await agent.accept(id, { kind: 'storage.copyImage', source, target, ...more, bandwidth: 2 * MiB })
      const written = file === volume(leaf) ? leaf : target === flat ? undefined : base
      await agent.untilDone(target.domain, target.image, written === leaf ? size + 1 : 1)
      await writer.tell(`store ${at} 99`)
      await agent.request('PATCH', `/tasks/${id}`, { body: { bandwidth: null } })
      const task = await agent.finished(id)
      t.match(task, { state: 'failed', error: { code: 'source-changed' } }, `${name}: ${task.state} ${JSON.stringify(task.error ?? task.result)}`)
      await writer.end()
      await agent.done(`${id}-delete`, { kind: 'storage.deleteImage', ...target })
    }
  }
})

t.test('what was stored between the runs of a copy shows, too', { skip }, async t => {
  const { agent, path } = await start(t, 'resumed')
  await makeDisk(path('disk.raw'), size)
  const writer = await Writer.start(t, path('disk.raw'), [early])
  await agent.accept('first', { kind: 'storage.copyImage', source: { domain: 'local', image: 'disk.raw' }, target: { domain: 'local', image: 'copy.raw' }, bandwidth: stalled })
  await agent.untilDone('local', 'copy.raw', 1)
  await agent.request('DELETE', '/tasks/first')
  t.match(await agent.finished('first'), { state: 'canceled' })
  await writer.tell(`store ${early} 99`)
  t.match((await agent.refused('again', { kind: 'storage.mendImage', domain: 'local', image: 'copy.raw' })).body, { code: 'source-changed' })
})

t.test('an image that is stored into all the time is neither cloned nor compared', { skip }, async t => {
  const { agent, path } = await start(t, 'beating', { clone: true })
  for (const name of ['disk.raw', 'still.raw']) await makeDisk(path(name), size)
  const clone = (target: string) => ({ kind: 'storage.copyImage', source: { domain: 'local', image: 'disk.raw' }, target: { domain: 'local', image: target } })
  const writer = await Writer.start(t, path('disk.raw'), [early])
  await writer.tell(`beat ${early}`)
  await makeOld(path('disk.raw'))
  // refused, or, where the writer had no turn between two looks, failed at the end: never complete
  const { status, body } = await agent.put('clone', clone('clone.raw'))
  const problem = status < 300 ? (await agent.finished('clone')).error : body
  t.match(problem, { code: 'source-changed' }, JSON.stringify(problem))
  t.not((await agent.image('local', 'clone.raw')).body.state, 'ok')
  if (status < 300) await agent.done('clone-delete', { kind: 'storage.deleteImage', domain: 'local', image: 'clone.raw' })
  await makeOld(path('disk.raw'))
  const compare = { kind: 'storage.verifyImage', domain: 'local', image: 'disk.raw', against: { domain: 'local', image: 'still.raw' } }
  t.match(await agent.done('compare', compare), { state: 'failed', error: { code: 'source-changed', detail: /disk\.raw was written during the comparison/ } })
  await writer.end()
  await makeOld(path('disk.raw'))
  t.match(await agent.done('compare-again', compare), { state: 'succeeded', result: { identical: false } })
  t.match(await agent.done('clone-again', clone('clone.raw')), { state: 'succeeded', result: { cloned: true } })
  await rm(path('clone.raw'))
})
