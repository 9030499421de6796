import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'

needs('mkfs.xfs')

t.setTimeout(300_000)

for (const kind of ['ext4', 'xfs', 'tmpfs'] as const) {
  t.test(`on a file system without a free inode, what cannot be is refused for that, and deleting works (${kind})`, { skip: unlessRoot }, async t => {
    const space = await MountSpace.make(t)
    const top = await temporaryDirectory(t)
    const at = join(top, 'few')
    await mkdir(at)
    if (kind === 'ext4') await space.mountFile(`${at}.img`, 64 * MiB, ['mkfs.ext4', '-q', '-N', '96'], at)
    else if (kind === 'xfs') await space.mountFile(`${at}.img`, 320 * MiB, ['mkfs.xfs', '-q', '-i', 'maxpct=1,size=2048'], at)
    else await space.run('mount', '-t', 'tmpfs', '-o', 'size=64m,nr_inodes=96', 'tmpfs', at)
    const agent = await startAgent(t, { domains: [{ id: 'few', path: at, create: true }, { id: 'local', path: join(top, 'local'), create: true }], under: space.enter })
    const path = space.path(at)
    await makeDisk(join(top, 'local', 'source.raw'), 4 * MiB)
    const few = (image: string) => ({ domain: 'few', image })
    t.match(await agent.done('whole', copySpec('source.raw', '', { target: few('whole.raw') })), { state: 'succeeded' })
    await agent.accept('open', copySpec('source.raw', '', { target: few('open.raw'), bandwidth: stalled }))
    await agent.untilDone('few', 'open.raw', MiB)
    await agent.request('DELETE', '/tasks/open')
    await agent.finished('open')
    // these no agent has ever had in its hands: they have no lease
    for (const image of ['plain.raw', 'another.raw']) await writeFile(join(path, image), 'x'.repeat(4096))
    // what is freed is kept busy, until not even a name can be made
    const fill = async () => {
      for (let file = 0; ; file++) {
        const made = await writeFile(join(path, `filler-${file}`), '', { flag: 'wx' }).then(() => true, (error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOSPC') return false
          if (error.code === 'EEXIST') return true
          throw error
        })
        if (!made) return
      }
    }
    await fill()

    const names = { status: 507, body: { code: 'no-space', detail: /no free inodes/ } }
    t.match(await agent.refused('copy', copySpec('source.raw', '', { target: few('new.raw') })), names, 'a copy')
    t.match(await agent.refused('mend', mendSpec('open.raw', { domain: 'few' })), names, 'a mend')
    for (const allocation of ['sparse', 'preallocated']) {
      t.match(await agent.refused(`create-${allocation}`, { kind: 'storage.createImage', ...few('new.qcow2'), virtualSize: MiB, allocation }), names, allocation)
    }
    t.match(await agent.request('PUT', '/tasks/dry?dryRun=true', { body: copySpec('source.raw', '', { target: few('new.raw') }) }), names, 'a dry run')
    t.match(await agent.done('away', copySpec('', 'away.raw', { source: few('plain.raw') })), { state: 'succeeded' }, 'images can be copied away')

    for (const image of ['plain.raw', 'open.raw', 'whole.raw']) {
      t.match(await agent.done(`delete-${image}`, { ...deleteSpec(image), domain: 'few' }), { state: 'succeeded' }, image)
      await fill()
    }
    t.strictSame((await readdir(path)).filter(name => name.endsWith('.raw')), ['another.raw'])
    for (const room of ['copies', 'parts']) t.strictSame(await readdir(join(path, '.vdsm-tasks', room)), [], room)
    // with an inode again, all is as ever
    for (const name of await readdir(path)) if (name.startsWith('filler')) await rm(join(path, name))
    t.match(await agent.done('again', copySpec('source.raw', '', { target: few('whole.raw') })), { state: 'succeeded' })
  })
}
