import { randomBytes } from 'node:crypto'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import { prepareArea } from '../../src/storage/area.ts'
import { total } from '../../src/storage/ranges.ts'
import { copySpec, mendSpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { recordIn, untrueRanges } from '../helpers/done-ranges.ts'
import { compare, identical, makeDisk, MiB } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'
import { seeded } from '../helpers/seeded.ts'

// The power is cut: the domain is an ext4 in a file that lies on an XFS, and a reflink of that file is, in one step, what
// a disk would have at that instant: all that was written back so far and nothing of what was only in the caches. It keeps
// the order in which writes were submitted, and a flush in it is never lost. So it cannot show what a disk does that
// reorders its writes or lies about its flushes. POWER_CUTS=20 makes more of them (npm run torture does).

const cuts = Number(process.env['POWER_CUTS'] ?? 3)
const seed = Number(process.env['TORTURE_SEED'] ?? randomBytes(4).readUInt32LE())
const random = seeded(seed)
t.setTimeout(120_000 + cuts * 60_000)
t.comment(`TORTURE_SEED=${seed}`)

const size = 32 * MiB + 1536
const bandwidth = 8 * MiB

for (const target of ['copy.raw', 'copy.qcow2']) {
  const format = target.endsWith('raw') ? 'raw' as const : 'qcow2' as const
  t.test(`what a record calls done is there after a power cut, and the copy to ${format} goes on from it`, { skip: unlessRoot }, async t => {
    const top = await temporaryDirectory(t)
    const [disks, before, after, local] = ['disks', 'before', 'after', 'local'].map(name => join(top, name)) as [string, string, string, string]
    for (const path of [disks, before, after, local]) await mkdir(path)
    const source = join(local, 'source.raw')
    await prepareArea({ id: 'local', path: local }, true)
    await makeDisk(source, size)

    const space = await MountSpace.make(t)
    await space.mountFile(join(top, 'xfs'), 1024 * MiB, ['mkfs.xfs', '-q', '-m', 'reflink=1'], disks)
    await space.mountFile(join(disks, 'disk'), 192 * MiB, ['mkfs.ext4', '-q', '-m', '0'], before)
    await prepareArea({ id: 'cut', path: space.path(before) }, true)
    const start = async (path: string) => await startAgent(t, {
      domains: [{ id: 'local', path: local }, { id: 'cut', path }], under: space.enter, copy: { windowSeconds: 0.5 }
    })

    const agent = await start(before)
    await agent.accept('copy', copySpec('source.raw', '', { target: { domain: 'cut', image: target }, bandwidth }))
    const ended = agent.finished('copy')
    const scenes: string[] = []
    // anywhere in the copy, which takes about as long as its limit says; the first one right after the accept step
    const seconds = 0.6 * size / bandwidth
    const instants = Array.from({ length: cuts - 1 }, () => random() * seconds).sort((a, b) => a - b)
    const cut = async () => {
      const disk = join(disks, `cut-${scenes.length}`)
      scenes.push(disk)
      await space.run('cp', '--reflink=always', join(disks, 'disk'), disk)
    }
    await cut()
    const startedAt = performance.now()
    for (const instant of instants) {
      await sleep(Math.max(0, instant * 1000 - (performance.now() - startedAt)))
      await cut()
    }
    t.match(await ended, { state: 'succeeded' })
    await agent.kill()

    const later = await start(after)
    const domains = [{ id: 'local', path: local }, { id: 'cut', path: after }]
    const found: number[] = []
    for (const disk of scenes) {
      await space.run('mount', '-o', 'loop', disk, after)
      await later.reconfigure({ domains })
      found.push(await goOn(t, disk))
      // an agent keeps its host file open
      await later.reconfigure({ domains: domains.slice(0, 1) })
      await space.unmount(after)
      await space.run('rm', disk)
    }
    t.comment(`${target}: cut at ${found.map(bytes => Math.round(bytes / MiB)).join(', ')} MiB`)

    /** What the cut has left is told as it is, is there, and becomes the whole image. Returns how much was done. */
    async function goOn (t: Test, disk: string): Promise<number> {
      const domain = space.path(after)
      const mountedAt = new Date().toISOString()
      // an answer may be a second old
      const body = await until(async () => {
        const { status, body } = await later.image('cut', target)
        return status === 200 && body.observedAt > mountedAt && body
      }, `the copy, which was accepted, on ${disk}`)
      const done = body.state === 'ok' ? size : total((await recordIn(domain, target)).done)
      if (body.state !== 'ok') {
        t.match(body, { state: 'interrupted', copy: { bytesDone: done }, fixes: [{ action: 'mend' }, { action: 'clean' }] })
        t.same(await untrueRanges(domain, await recordIn(domain, target), source, top), [], `${done} bytes are done, and are there`)
        t.match(await later.done(`mend-${found.length}`, mendSpec(target, { domain: 'cut' })), { state: 'succeeded', result: { bytesCopied: Math.ceil(size / 512) * 512 - done, epoch: 2 } })
      }
      t.equal(await compare({ path: source, format: 'raw' }, { path: join(domain, target), format }), identical)
      t.same(await later.fixes('cut'), [])
      t.same(await readdir(join(domain, '.vdsm-tasks/parts')), [])
      return done
    }
  })
}
