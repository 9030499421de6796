import { mkdir, readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Agent } from '../../src/api/agent.ts'
import { copySpec, deleteSpec, mendSpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, MiB, sh } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/processes.ts'

needs('bindfs', 'mkfs.xfs')

// The programs that copy run confined, as somebody who can open the images. Who that is differs from one file system to the
// other: some do not go by owner and mode at all.

t.setTimeout(600_000)
// they wait for the clocks of their storage most of the time
t.jobs = 4

interface Place {
  /** What it is mounted by: a file system in a file, or bindfs with these options. */
  mkfs?: [string, ...string[]]
  bindfs?: string[]
  /** Owner and mode of the directory of the domain, below what is mounted. */
  access: [owner: string, mode: string]
  owner?: { uid: number, gid: number }
  /** As whom qemu-img is to run, and whose the images are that a look from outside shows. */
  runsAs: number
  belongsTo: string
}

const places: Readonly<Record<string, Place>> = {
  'ext4, of root': { mkfs: ['mkfs.ext4', '-q', '-F'], access: ['0:0', '755'], runsAs: 0, belongsTo: '0:0' },
  'ext4, of another user': { mkfs: ['mkfs.ext4', '-q', '-F'], access: ['1000:1000', '700'], runsAs: 1000, belongsTo: '1000:1000' },
  'ext4, with an owner in the configuration': { mkfs: ['mkfs.ext4', '-q', '-F'], access: ['0:0', '755'], owner: { uid: 36, gid: 36 }, runsAs: 36, belongsTo: '36:36' },
  XFS: { mkfs: ['mkfs.xfs', '-q', '-f'], access: ['36:36', '770'], runsAs: 36, belongsTo: '36:36' },
  Btrfs: { mkfs: ['mkfs.btrfs', '-q', '-f'], access: ['36:36', '770'], runsAs: 36, belongsTo: '36:36' },
  'FUSE that others may use': { bindfs: [], access: ['36:36', '770'], runsAs: 36, belongsTo: '36:36' },
  'FUSE that only root may use': { bindfs: ['--no-allow-other'], access: ['36:36', '770'], runsAs: 0, belongsTo: '36:36' },
  'FUSE that shows another owner': { bindfs: ['--force-user=36', '--force-group=36', '--chown-ignore', '--chgrp-ignore'], access: ['0:0', '755'], runsAs: 36, belongsTo: '36:36' },
  'FUSE that maps users': { bindfs: ['--map=1000/36:@1000/@36'], access: ['1000:1000', '770'], runsAs: 36, belongsTo: '36:36' },
  // what root_squash does: whoever makes a file, it is nobody's, and cannot be given to anybody; its group may write it
  'FUSE on which all is nobody\'s': {
    bindfs: ['--create-for-user=65534', '--create-for-group=65534', '--chown-deny', '--chgrp-deny'], access: ['36:36', '777'], runsAs: 36, belongsTo: '65534:65534'
  },
  'FUSE with modes of its own': { bindfs: ['--perms=u=rwX:g=rX:o=', '--chmod-ignore'], access: ['36:36', '770'], runsAs: 36, belongsTo: '36:36' }
}

for (const [name, { mkfs, bindfs, access: [of, mode], owner, runsAs, belongsTo }] of Object.entries(places)) {
  const isThere = await sh('sh', '-c', `command -v ${mkfs?.[0] ?? 'bindfs'}`).then(() => true, () => false)
  t.test(`${name}: copies are made, killed and mended by confined programs`, { skip: unlessRoot !== false ? unlessRoot : isThere ? false : `${mkfs?.[0] ?? 'bindfs'} is not installed`, buffered: true }, async t => {
    const directory = await temporaryDirectory(t)
    await sh('chmod', '755', directory)
    const space = await MountSpace.make(t)
    const [below, at] = ['below', 'at'].map(name => join(directory, name)) as [string, string]
    for (const path of [below, at]) await mkdir(path)
    if (mkfs !== undefined) await space.mountFile(join(directory, 'disk.img'), 512 * MiB, mkfs, below)
    const path = bindfs === undefined ? below : at
    const domain = join(path, 'domain')
    await space.run('mkdir', join(below, 'domain'))
    await space.run('chown', of, join(below, 'domain'))
    await space.run('chmod', mode, join(below, 'domain'))
    if (bindfs !== undefined) await space.mountFuse(at, 'bindfs', '-f', ...bindfs, below, at)

    const domains = [{ id: 'local', path: domain, create: true, ...owner !== undefined && { owner } }]
    const start = async () => await startAgent(t, { domains, copy: { windowSeconds: 0.5, clone: false }, under: space.enter })
    let agent = await start()
    t.match((await agent.request<Agent>('GET', '/agent')).body, { confinement: { fileSystem: 'landlock' } })
    const file = (image: string) => space.path(join(domain, image))
    await makeDisk(file('source.raw'), 8 * MiB, { blockBytes: MiB })
    // as somebody else has left it there, who need not be the owner
    if (bindfs === undefined) await sh('chmod', '644', file('source.raw'))

    t.match(await agent.done('raw', copySpec('source.raw', 'copy.raw')), { state: 'succeeded' })
    await agent.accept('slow', copySpec('source.raw', 'copy.qcow2', { bandwidth: MiB }))
    const status = await until(async () => {
      const pid = agent.children('qemu-img convert').at(-1)
      const text = pid === undefined ? '' : await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
      return /^Name:\tqemu-img$/m.test(text) && /^State:\t[RSD]/m.test(text) && text
    }, 'qemu-img')
    t.match(status, new RegExp(`^Uid:\\t${runsAs}\\t${runsAs}\\t${runsAs}\\t${runsAs}$`, 'm'))
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']) t.match(status, new RegExp(`^Cap${set}:\\t0+$`, 'm'))
    t.match(status, /^NoNewPrivs:\t1$/m)
    await agent.untilDone('local', 'copy.qcow2', 1)
    await agent.kill()
    agent = await start()
    t.match(await agent.done('mend', mendSpec('copy.qcow2')), { state: 'succeeded' })
    t.match(await agent.done('back', copySpec('copy.qcow2', 'back.raw', { verify: true })), { state: 'succeeded', result: { verified: true } })
    for (const image of ['copy.raw', 'copy.qcow2', 'back.raw']) {
      t.equal(await compare({ path: file('source.raw'), format: 'raw' }, { path: file(image), format: image.endsWith('.raw') ? 'raw' : 'qcow2' }), identical, image)
      t.equal((await sh('stat', '-c', '%u:%g', file(image))).trim(), belongsTo, image)
    }
    t.match(await agent.done('create', { kind: 'storage.createImage', domain: 'local', image: 'new.qcow2', virtualSize: MiB }), { state: 'succeeded' })
    for (const image of ['copy.raw', 'copy.qcow2', 'back.raw', 'new.qcow2']) t.match(await agent.done(`delete-${image}`, deleteSpec(image)), { state: 'succeeded' }, image)
    t.strictSame((await readdir(file('.'))).sort(), ['.vdsm-tasks', 'source.raw'])
    await agent.kill()
  })
}
