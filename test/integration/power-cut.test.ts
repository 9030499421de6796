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
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/processes.ts'
import { seeded } from '../helpers/seeded.ts'

needs('mkfs.xfs')

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

for (const [format, directIo] of [['raw', true], ['raw', false], ['qcow2', true], ['qcow2', false]] as const) {
  const target = `copy.${format}`
  const how = directIo ? 'past the page cache' : 'through the page cache'
  t.test(`what a record calls done is there after a power cut, and the copy to ${format} ${how} goes on from it`, { skip: unlessRoot }, async t => {
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
      domains: [{ id: 'local', path: local }, { id: 'cut', path }], under: space.enter, copy: { windowSeconds: 0.5, directIo }
    })

    const agent = await start(before)
    await agent.accept('copy', copySpec('source.raw', '', { target: { domain: 'cut', image: target }, bandwidth }))
    const ended = agent.finished('copy')
    /** Read where the agent writes it: it is cut in the moment in which a record is there. */
    const doneNow = async () => {
      const { phase, done } = await recordIn(space.path(before), target)
      return phase === 'done' ? size : total(done)
    }
    /** The disks, and how much must be done on each. */
    const scenes: Array<[disk: string, atLeast: number]> = []
    const cut = async (atLeast: number) => {
      const disk = join(disks, `cut-${scenes.length}`)
      scenes.push([disk, atLeast])
      await space.run('cp', '--reflink=always', join(disks, 'disk'), disk)
    }
    // the first one right after the accept step, the others anywhere in the copy, as soon as a record counts more than the last one
    await cut(0)
    const places = Array.from({ length: cuts - 1 }, () => Math.floor(random() * 0.5 * size)).sort((a, b) => a - b)
    // a copy has only so many records
    for (let last = 0, place = places.shift(); place !== undefined && last < size;) {
      const now = await doneNow()
      if (now > last && now > place) {
        // this record may not be durable yet; the one before is, or this one would not have been begun
        await cut(last)
        place = places.shift()
      }
      last = now
      await sleep(2)
    }
    t.match(await ended, { state: 'succeeded' })
    await agent.kill()

    const later = await start(after)
    const domains = [{ id: 'local', path: local }, { id: 'cut', path: after }]
    const found: number[] = []
    for (const [disk, atLeast] of scenes) {
      await space.run('mount', '-o', 'loop', disk, after)
      await later.reconfigure({ domains })
      const done = await goOn(t, disk)
      t.ok(done >= atLeast, `${done} bytes are done, of ${atLeast} that were said to be`)
      found.push(done)
      // an agent keeps its host file open
      await later.reconfigure({ domains: domains.slice(0, 1) })
      await space.unmount(after)
      await space.run('rm', disk)
    }
    t.ok(found.some(done => done > 0 && done < size), 'in the middle of it')
    t.comment(`${target} ${how}: cut at ${found.map(bytes => Math.round(bytes / MiB)).join(', ')} MiB`)

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
