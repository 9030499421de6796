import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, statSync } from 'node:fs'
import { link, mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Test } from 'tap'
import { isLeased, lockFile, removeUnusedLease, takeLease } from '../../src/storage/lease.ts'
import { closeFd, openDirectory, openFile } from '../../src/system/directory.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { descendants, isAlive, until } from '../helpers/processes.ts'

const path = await temporaryDirectory(t)
const leases = await openDirectory(path)
t.teardown(async () => { await closeFd(leases.fd) })
const helper = fileURLToPath(new URL('../helpers/hold-lease.ts', import.meta.url))

/** A process of its own that takes a lease, and perhaps hands it on to a child of its own. */
async function holder (t: Test, image: string, mode: 'exclusive' | 'shared', child = false): Promise<{ process: ChildProcess, took: boolean }> {
  const process_ = spawn(process.execPath, [...process.execArgv, helper, path, image, mode, ...child ? ['child'] : []], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { process_.kill('SIGKILL') })
  const [answer] = await once(process_.stdout.setEncoding('utf8'), 'data') as [string]
  return { process: process_, took: answer.trim() === 'taken' }
}

const end = async (process: ChildProcess) => {
  process.kill('SIGKILL')
  await once(process, 'exit')
}

t.test('one writer or many readers, across processes', async t => {
  for (const [held, wanted, free] of [
    ['exclusive', 'exclusive', false], ['exclusive', 'shared', false], ['shared', 'exclusive', false], ['shared', 'shared', true]
  ] as const) {
    const image = `${held}-${wanted}`
    const other = await holder(t, image, held)
    t.ok(other.took)
    const mine = await takeLease(leases, image, wanted)
    t.equal(mine !== undefined, free, `${wanted} beside ${held}`)
    await mine?.release()
    t.equal(await isLeased(leases, image), held === 'exclusive', 'a look tells of a writer')
    await end(other.process)
    const after = await takeLease(leases, image, wanted)
    t.ok(after !== undefined, 'death frees it')
    await after?.release()
    t.notOk(await isLeased(leases, image))
  }
})

t.test('within one process, too, the second writer is refused', async t => {
  const first = await takeLease(leases, 'same', 'exclusive')
  t.equal(first?.existed, false)
  t.equal(await takeLease(leases, 'same', 'exclusive'), undefined)
  t.ok(await first?.holds())
  t.ok(await isLeased(leases, 'same'))
  await first?.release()
  const second = await takeLease(leases, 'same', 'exclusive')
  t.equal(second?.existed, true)
  await second?.release()
})

t.test('a child that inherited the lease keeps it when its holder is killed', async t => {
  const { process, took } = await holder(t, 'inherited', 'exclusive', true)
  t.ok(took)
  const [child = 0] = await until(() => {
    const found = descendants(process.pid ?? 0)
    return found.length > 0 && found
  })
  t.teardown(() => { if (isAlive(child)) globalThis.process.kill(child, 'SIGKILL') })
  await end(process)
  t.ok(isAlive(child))
  t.ok(await isLeased(leases, 'inherited'))
  t.equal(await takeLease(leases, 'inherited', 'exclusive'), undefined)
  globalThis.process.kill(child, 'SIGKILL')
  // takeLease waits for it by itself
  const lease = await takeLease(leases, 'inherited', 'exclusive')
  t.ok(lease !== undefined)
  await lease?.release()
})

t.test('a lease that is about to be free is waited for', async t => {
  const { process } = await holder(t, 'waited', 'exclusive')
  const taking = takeLease(leases, 'waited', 'exclusive')
  process.kill('SIGKILL')
  const lease = await taking
  t.ok(lease !== undefined)
  await lease?.release()
})

t.test('of many who want to write, one does', async t => {
  const taken = await Promise.all(Array.from({ length: 12 }, async () => await takeLease(leases, 'wanted', 'exclusive')))
  t.equal(taken.filter(lease => lease !== undefined).length, 1)
  await Promise.all(taken.map(async lease => { await lease?.release() }))
})

t.test('lease files stay the same empty files for ever', async t => {
  const before = statSync(join(path, 'same')).ino
  for (let round = 0; round < 3; round++) {
    const lease = await takeLease(leases, 'same', round === 1 ? 'shared' : 'exclusive')
    await isLeased(leases, 'same')
    await lease?.release()
  }
  t.equal(statSync(join(path, 'same')).ino, before)
  t.ok(readdirSync(path).every(name => statSync(join(path, name)).size === 0))
  t.notOk(await isLeased(leases, 'never-taken'))
  t.notOk(readdirSync(path).includes('never-taken'), 'a look makes no file')
})

t.test('what is no lease file is not locked', async t => {
  await symlink('/etc/hostname', join(path, 'link'))
  await mkdir(join(path, 'folder'))
  for (const image of ['link', 'folder']) {
    await t.rejects(takeLease(leases, image, 'exclusive'), { name: 'NotAFileError' })
    await t.rejects(isLeased(leases, image), { name: 'NotAFileError' })
  }
})

t.test('a file itself can be locked, until its last descriptor is closed', async t => {
  const open = async () => await openFile(leases, 'same', 2)
  const [first, second] = [await open(), await open()]
  t.ok(await lockFile(first))
  t.ok(await lockFile(first), 'again, by the same')
  t.notOk(await lockFile(second))
  await closeFd(first)
  t.ok(await lockFile(second))
  await closeFd(second)
})

t.test('a lease that is another name of a file elsewhere is nobody\'s, and that file is not locked', async t => {
  const elsewhere = join(await temporaryDirectory(t), 'elsewhere')
  await writeFile(elsewhere, '')
  await link(elsewhere, join(path, 'linked'))
  for (const mode of ['exclusive', 'shared'] as const) await t.rejects(takeLease(leases, 'linked', mode), { name: 'NotAFileError', message: /linked has other names/ })
})

t.test('lease files are removed, and nobody gets a lock beside another one', async t => {
  const place = await temporaryDirectory(t)
  const rival = fileURLToPath(new URL('../helpers/contend-for-lease.ts', import.meta.url))
  const contend = async (role: 'work' | 'remove') => {
    const child = spawn(process.execPath, [...process.execArgv, rival, path, place, role, '4', '0'], { stdio: ['ignore', 'pipe', 'inherit'] })
    t.teardown(() => { child.kill('SIGKILL') })
    return (await text(child.stdout)).trim().split('\n')
  }
  const [workers, [removed]] = await Promise.all([Promise.all(Array.from({ length: 3 }, async () => await contend('work'))), contend('remove')])
  t.strictSame(workers.flat().filter(line => line.startsWith('two holders')), [])
  t.ok(workers.every(([count]) => Number(count) > 0), `each had a lease: ${workers.join()}`)
  t.ok(Number(removed) > 0, `files were removed: ${removed}`)
})

t.test('the file of a lease that somebody has, or that is in use otherwise, stays', async t => {
  const lease = await takeLease(leases, 'in-use', 'shared')
  t.equal(await removeUnusedLease(leases, 'in-use', async () => true), undefined)
  await lease?.release()
  t.equal(await removeUnusedLease(leases, 'in-use', async () => false), undefined)
  const forget = await removeUnusedLease(leases, 'in-use', async () => true)
  t.type(forget, 'function')
  await forget?.()
  t.equal((await takeLease(leases, 'in-use', 'exclusive'))?.existed, false, 'it is made again')
})
