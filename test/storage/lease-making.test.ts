import { fork } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import { lockFile, takeLease, type Lease } from '../../src/storage/lease.ts'
import { takeWithoutFile } from '../../src/storage/lease-making.ts'
import { closeFd, openDirectory, openFile, type Directory } from '../../src/system/directory.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'

t.setTimeout(120_000)

const rounds = 12
const helper = fileURLToPath(new URL('../helpers/take-leases.ts', import.meta.url))

/** A file system that has not one inode left, and what makes one free again. */
async function scene (t: Test, kind: 'ext4' | 'tmpfs'): Promise<{ path: string, leases: Directory, makeRoom: () => Promise<void>, fill: () => Promise<void> }> {
  const space = await MountSpace.make(t)
  const at = join(await temporaryDirectory(t), 'small')
  await mkdir(at)
  if (kind === 'ext4') await space.mountFile(`${at}.img`, 16 * 1024 * 1024, ['mkfs.ext4', '-q', '-N', '64'], at)
  else await space.run('mount', '-t', 'tmpfs', '-o', 'nr_inodes=64', 'tmpfs', at)
  const path = space.path(at)
  await mkdir(join(path, 'leases'))
  for (const name of ['image', ...Array.from({ length: rounds }, (_, round) => `oracle-${round}`)]) await writeFile(join(path, name), 'x')
  const leases = await openDirectory(join(path, 'leases'))
  t.teardown(async () => { await closeFd(leases.fd) })
  const fill = async () => {
    for (let file = 0; ; file++) {
      try {
        await writeFile(join(path, `filler-${file}`), '', { flag: 'wx' })
      } catch (error) {
        if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
      }
    }
  }
  const makeRoom = async () => {
    const [filler] = readdirSync(path).filter(name => name.startsWith('filler'))
    if (filler !== undefined) await rm(join(path, filler))
  }
  await fill()
  return { path, leases, fill, makeRoom }
}

const without = { withoutFile: { file: async () => undefined } }

for (const kind of ['ext4', 'tmpfs'] as const) {
  t.test(`without an inode for its file, a lease excludes who has one, and who has none (${kind})`, { skip: unlessRoot }, async t => {
    const { path, leases, fill, makeRoom } = await scene(t, kind)
    await t.rejects(takeLease(leases, 'image', 'exclusive'), { code: 'ENOSPC' }, 'nobody but who makes space goes without')
    await t.rejects(takeLease(leases, 'image', 'shared', without), { code: 'ENOSPC' })
    const lease = await takeLease(leases, 'image', 'exclusive', without)
    t.equal(await lease?.holds(), true)
    t.equal(await takeLease(leases, 'image', 'exclusive', without), undefined, 'this process once only')
    const another = await takeLease(leases, 'another', 'exclusive', without)
    t.ok(another !== undefined, 'but for several images')
    t.strictSame(readdirSync(join(path, 'leases')), [])

    // there is an inode again: whoever could make the file must not
    await makeRoom()
    t.equal(await takeLease(leases, 'image', 'exclusive'), undefined)
    t.equal(await takeLease(leases, 'image', 'shared'), undefined)
    await lease?.release()
    t.equal(await takeLease(leases, 'image', 'exclusive'), undefined, 'nor any other, while there is one without')
    await another?.release()
    const usual = await takeLease(leases, 'image', 'exclusive')
    t.equal(usual?.existed, false)
    await fill()
    t.equal(await takeLease(leases, 'image', 'exclusive', without), undefined, 'a file that is there counts')
    await usual?.release()
    const last = await takeLease(leases, 'image', 'exclusive', without)
    t.equal(last?.existed, true)
    await last?.release()
  })
}

t.test('of hosts with and without an inode for the file, one has the lease at a time', { skip: unlessRoot }, async t => {
  const { path, fill, makeRoom } = await scene(t, 'tmpfs')
  // processes of their own, as of other hosts; each says whether it met another one under the lease
  const others = Array.from({ length: 4 }, () => fork(helper, [join(path, 'leases'), path, String(rounds)], { execArgv: process.execArgv }))
  t.teardown(() => { for (const other of others) other.kill('SIGKILL') })
  let isOver = 0
  const ends = others.map(async other => {
    const [answer] = await once(other, 'message') as [{ met: number, taken: number }]
    isOver++
    return answer
  })
  while (isOver < others.length) {
    await makeRoom()
    await new Promise(resolve => { setImmediate(resolve) })
    await fill()
  }
  const answers = await Promise.all(ends)
  t.strictSame(answers.map(({ met }) => met), others.map(() => 0))
  t.ok(answers.reduce((sum, { taken }) => sum + taken, 0) > 0)
})

t.test('a lease file that somebody has made meanwhile is the one that counts', async t => {
  const path = await temporaryDirectory(t)
  const leases = await openDirectory(path)
  t.teardown(async () => { await closeFd(leases.fd) })
  await writeFile(join(path, 'image'), '')
  const options = { local: true, file: async () => undefined }
  t.equal(await takeWithoutFile(leases, 'image', options), 'has-file')
  t.ok(await takeLease(leases, 'another', 'exclusive') !== undefined, 'and nobody is kept from making others')
})

t.test('the image itself is locked, too, where there is one', { skip: unlessRoot }, async t => {
  const { path, leases } = await scene(t, 'ext4')
  const directory = await openDirectory(path)
  t.teardown(async () => { await closeFd(directory.fd) })
  const file = async () => await openFile(directory, 'image', 0)
  const take = async (): Promise<Lease | undefined> => await takeLease(leases, 'image', 'exclusive', { withoutFile: { file } })
  const other = await file()
  t.equal(await lockFile(other), true)
  t.equal(await take(), undefined)
  await closeFd(other)
  const lease = await take()
  const late = await file()
  t.equal(await lockFile(late), false)
  await lease?.release()
  t.equal(await lockFile(late), true)
  await closeFd(late)
})
