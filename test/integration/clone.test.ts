import { mkdir, readdir, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sh, sha256 } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'

needs('mkfs.xfs')

t.setTimeout(300_000)

const directory = await temporaryDirectory(t)
const skip = unlessRoot

/** An agent whose domain is on a fresh XFS, made with these options. */
async function startOn (t: Parameters<typeof startAgent>[0], name: string, options: readonly string[], copy: object = {}) {
  const space = await MountSpace.make(t)
  const at = join(directory, name)
  await mkdir(at)
  await space.mountFile(join(directory, `${name}.img`), 600 * MiB, ['mkfs.xfs', '-q', ...options], at)
  const agent = await startAgent(t, { domains: [{ id: 'local', path: at, create: true }], copy, under: space.enter })
  const path = (image: string) => space.path(join(at, image))
  return { agent, path, space }
}

t.test('where files can share data, a copy is a clone', { skip }, async t => {
  const { agent, path } = await startOn(t, 'reflink', ['-m', 'reflink=1'])
  await makeDisk(path('source.raw'), 200 * MiB + 1234, { blockBytes: 40 * MiB })
  await makeOld(path('source.raw'))
  await sh('chmod', '400', path('source.raw'))
  const freeBytes = async () => {
    await sh('sync', '-f', path('.'))
    const { bavail, bsize } = await statfs(path('.'))
    return bavail * bsize
  }
  const before = await freeBytes()
  t.match(await agent.done('raw', copySpec('source.raw', 'copy.raw', { verify: true })), { state: 'succeeded', result: { cloned: true, bytesMoved: 0, verified: true } })
  t.ok(before - await freeBytes() < 10 * MiB, 'it takes no space')
  t.equal(await sha256(path('copy.raw')), await sha256(path('source.raw')))
  t.equal((await sh('stat', '-c', '%a', path('copy.raw'))).trim(), '660', 'whoever may use images may use it')
  t.match(await agent.done('again', copySpec('source.raw', 'copy.raw', { verify: true })), { result: { alreadyDone: true } })
  t.same(await readdir(path('.vdsm-tasks/parts')), [])

  const converted = await agent.done('qcow2', copySpec('source.raw', 'source.qcow2'))
  t.notOk('cloned' in (converted.result ?? {}), 'another format is copied')
  await makeOld(path('source.qcow2'))
  t.match(await agent.done('qcow2-clone', copySpec('source.qcow2', 'clone.qcow2')), { state: 'succeeded', result: { cloned: true } })
  await sh('qemu-img', 'compare', path('source.raw'), path('clone.qcow2'))

  for (const [name, target] of [['reserved.raw', { allocation: 'preallocated' }], ['clusters.qcow2', { clusterSize: 4096 }]] as const) {
    const from = name.endsWith('raw') ? 'source.raw' : 'source.qcow2'
    const { result } = await agent.done(name, copySpec(from, name, { target: { domain: 'local', image: name, ...target } }))
    t.notOk('cloned' in (result ?? {}), `${name} is what was asked for, and no clone`)
    await agent.done(`delete-${name}`, deleteSpec(name))
  }
  await sh('qemu-img', 'snapshot', '-c', 'inner', path('source.qcow2'))
  await makeOld(path('source.qcow2'))
  const { result } = await agent.done('inner', copySpec('source.qcow2', 'plain.qcow2'))
  t.notOk('cloned' in (result ?? {}), 'a copy has no internal snapshots')
  t.notMatch(await sh('qemu-img', 'snapshot', '-l', path('plain.qcow2')), /inner/)

  await sh('fallocate', '-l', String(await freeBytes() - 20 * MiB), path('.ballast'))
  t.match(await agent.done('tight', copySpec('source.raw', 'tight.raw')), { result: { cloned: true } }, 'a clone fits where a copy would not')
})

t.test('where files cannot, it is a copy; so it is when that was configured', { skip }, async t => {
  for (const [name, options, copy] of [['plain', ['-m', 'reflink=0'], {}], ['unwanted', ['-m', 'reflink=1'], { clone: false }]] as const) {
    const { agent, path } = await startOn(t, name, options, copy)
    await makeDisk(path('source.raw'), 20 * MiB)
    const { state, result } = await agent.done('copy', copySpec('source.raw', 'copy.raw'))
    t.equal(state, 'succeeded')
    t.notOk('cloned' in (result ?? {}))
    t.equal(await sha256(path('copy.raw')), await sha256(path('source.raw')))
  }
})

t.test('a qcow2 image has the clusters that were asked for', async t => {
  const path = join(directory, 'clusters')
  const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }] })
  await makeDisk(join(path, 'source.raw'), 20 * MiB + 512)
  const clusterSize = async (image: string) => (JSON.parse(await sh('qemu-img', 'info', '--output=json', join(path, image))) as { 'cluster-size': number })['cluster-size']
  for (const bytes of [512, 4096, 65536, 2 * MiB]) {
    const image = `clusters-${bytes}.qcow2`
    t.match(await agent.done(image, copySpec('source.raw', '', { target: { domain: 'local', image, clusterSize: bytes } })), { state: 'succeeded' })
    t.equal(await clusterSize(image), bytes)
    await sh('qemu-img', 'compare', join(path, 'source.raw'), join(path, image))
  }
  await agent.done('empty', { kind: 'storage.createImage', domain: 'local', image: 'empty.qcow2', virtualSize: MiB, clusterSize: 2 * MiB })
  t.equal(await clusterSize('empty.qcow2'), 2 * MiB)
  t.match((await agent.refused('odd', copySpec('source.raw', '', { target: { domain: 'local', image: 'odd.qcow2', clusterSize: 5000 } }))).body, { status: 400, code: 'bad-request' })
  t.match((await agent.refused('raw', copySpec('source.raw', '', { target: { domain: 'local', image: 'odd.raw', clusterSize: 4096 } }))).body, { status: 400, code: 'bad-request', detail: /raw images have no clusters/ })
  t.match((await agent.refused('other', copySpec('source.raw', '', { target: { domain: 'local', image: 'clusters-512.qcow2', clusterSize: 4096 } }))).body, { code: 'target-exists', differs: ['cluster size'] })
})
