import { chmod, copyFile, link, mkdir, open, readFile, rename, rm, stat, truncate, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { AppError } from '../../../src/errors.ts'
import { longestImageBytes } from '../../../src/qemu/geometry.ts'
import { openArea, prepareArea, type DomainPlace } from '../../../src/storage/area.ts'
import { decide, type Accepted } from '../../../src/storage/copy/accept.ts'
import { Copier } from '../../../src/storage/copy/copier.ts'
import { finish } from '../../../src/storage/copy/finish.ts'
import { createPart, reopenPart } from '../../../src/storage/copy/part.ts'
import { Session } from '../../../src/storage/copy/session.ts'
import { inodeOf } from '../../../src/storage/identity.ts'
import { isLeased } from '../../../src/storage/lease.ts'
import { DirectoryTarget } from '../../../src/storage/layout/directory/copy-target.ts'
import type { CopyJob } from '../../../src/storage/protocol.ts'
import { total } from '../../../src/storage/ranges.ts'
import { readRecord, writeRecord, type CopyRecord } from '../../../src/storage/record.ts'
import { closeFd, entry } from '../../../src/system/directory.ts'
import { inWorker } from '../../helpers/copy-agent.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { KiB, makeDisk, makeOld, MiB, sh, sha256 } from '../../helpers/images.ts'
import { MountSpace, unlessRoot } from '../../helpers/mount-space.ts'
import { needs } from '../../helpers/needs.ts'
import { commandLine, descendants, until } from '../../helpers/processes.ts'
import { copyJob, rawCopy } from '../../helpers/storage-jobs.ts'

needs('bindfs', 'qemu-img')

// What keeps two hosts from writing one image, and a copy from being called good, guard by guard: in each test, all
// others are out of the way, or would let it pass.

t.setTimeout(180_000)

const size = 4 * MiB + 700
const signal = new AbortController().signal
const settings = { parallelWindows: 1, windowSeconds: 4, clone: false, directIo: false }

/** A domain with a source, and jobs that copy it. */
async function domainIn (t: Test) {
  const path = await temporaryDirectory(t)
  const place: DomainPlace = { id: 'local', path }
  await prepareArea(place, true)
  await makeDisk(join(path, 'source.raw'), size, { blockBytes: 512 * KiB })
  const area = await openArea(place)
  t.teardown(async () => { await area.close() })
  const at = (name: string) => join(path, name)
  const job = (more: { verify?: boolean, onExisting?: 'refuse' | 'replace' } = {}): CopyJob => copyJob([place], { ...rawCopy, ...more }, settings).job
  const mend: CopyJob = { ...copyJob([place], { what: 'mend', domain: 'local', image: 'target.raw' }, settings).job, host: { id: 'node2' }, taskId: 'mend' }
  const recorded = async () => {
    const record = await readRecord(area.copies, 'local', 'target.raw')
    if (record === undefined) throw new Error('there is no record')
    return record
  }
  const partPath = async () => at(`.vdsm-tasks/parts/${(await recorded()).copyId}`)
  return { path, place, area, at, job, mend, recorded, partPath }
}

/** Accepts a copy, as the worker does, and lets go of it. */
async function accepted (t: Test, job: CopyJob): Promise<Accepted> {
  const single = await (await decide(inWorker(job))).proceed()
  if (single.how !== 'run') throw new Error(`there is nothing to run: ${single.how}`)
  const { part, lease } = single.accepted
  t.teardown(async () => {
    await closeFd(part.fd).catch(() => { /* let go of before */ })
    await lease.release().catch(() => { /* let go of before */ })
  })
  return single.accepted
}

async function letGo ({ part, lease, source, area }: Accepted): Promise<void> {
  await closeFd(part.fd)
  await lease.release()
  for (const { fd } of source.files) await closeFd(fd)
  await area.close()
}

const copierOf = (session: Session, { parallelWindows = 1, bandwidth = null }: { parallelWindows?: number, bandwidth?: number | null } = {}) => new Copier(session, {
  settings: copyJob([], { what: 'mend', domain: 'local', image: '' }, { ...settings, parallelWindows }).job.settings,
  bandwidth,
  expectedBytesPerSecond: MiB / 4,
  clusterBytes: 1,
  direct: false,
  work: { bytesToMove: size, bytesNeeded: size },
  reserveBytes: 0
}, () => {})

/** A session that nothing guards but one question: whose the copy is, at the so-manyth time. */
class Asked extends Session {
  readonly #lostAt: number
  #current: CopyRecord
  #last: Promise<void> = Promise.resolve()
  asked = 0

  constructor (of: Accepted, lostAt: number) {
    super({ ...of, signal })
    this.#current = of.record
    this.#lostAt = lostAt
  }

  override get record (): CopyRecord { return this.#current }

  override async checkpoint (change: (record: CopyRecord) => Partial<CopyRecord>): Promise<void> {
    this.#last = this.#last.then(async () => {
      this.#current = { ...this.#current, ...change(this.#current) }
      await writeRecord(this.area.copies, this.#current)
    })
    await this.#last
  }

  override async assertOwnership (): Promise<void> {
    if (++this.asked >= this.#lostAt) throw new AppError('lease-lost', 'it is another host\'s')
  }
}

t.test('before each window it is asked whose the copy is', async t => {
  const { job, partPath, at } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Asked(copy, 3)
  await t.rejects(copierOf(session).copy(), { code: 'lease-lost' })
  t.equal(session.asked, 3)
  const part = await readFile(await partPath())
  const source = await readFile(at('source.raw'))
  t.ok(part.subarray(0, 2 * MiB).equals(source.subarray(0, 2 * MiB)), 'two windows were written')
  t.ok(part.subarray(2 * MiB).every(byte => byte === 0), 'and nothing after that')
})

t.test('before the end it is asked whose the copy is', async t => {
  const { job, partPath } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Asked(copy, Infinity)
  await copierOf(session).copy()
  const before = (await stat(await partPath())).size
  await t.rejects(finish(new Asked({ ...copy, record: session.record }, 1), () => {}), { code: 'lease-lost' })
  t.equal((await stat(await partPath())).size, before, 'and nothing is cut')
  t.not(before, size, 'there was something to cut')
})

/** A session of which somebody links the part when the record says that the end has begun. */
class Late extends Session {
  override async checkpoint (change: (record: CopyRecord) => Partial<CopyRecord>): Promise<void> {
    await super.checkpoint(change)
    const part = entry(this.area.parts, this.record.copyId)
    if (this.record.phase === 'finishing') await link(part, `${part}.late`)
  }
}

t.test('after the last record and before the name it is asked once more', async t => {
  const { job, at } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Late({ ...copy, signal })
  await copierOf(session).copy()
  await t.rejects(finish(session, () => {}), { code: 'target-changed' })
  await t.rejects(stat(at('target.raw')), { code: 'ENOENT' })
})

t.test('the limit is for the whole copy, however many windows are written at once', async t => {
  const { job } = await domainIn(t)
  const copy = await accepted(t, job())
  const commands = new Set<string>()
  const look = setInterval(() => { for (const pid of descendants(process.pid)) commands.add(commandLine(pid)) }, 1)
  const bandwidth = 64 * MiB
  await copierOf(new Session({ ...copy, signal }), { parallelWindows: 2, bandwidth }).copy().finally(() => { clearInterval(look) })
  const rates = [...commands].flatMap(command => [...command.matchAll(/qemu-img convert .*-r (\d+)/g)].map(([, rate]) => Number(rate)))
  t.ok(rates.length > 0)
  t.ok(rates.every(rate => rate === bandwidth / 2), rates.join())
})

t.test('a lock that is lost is a copy that is lost, on a file system that may be cut off', async t => {
  const { job } = await domainIn(t)
  const copy = await accepted(t, job())
  const shared = { ...copy.area, local: false }
  const withLease = (holds: () => Promise<boolean>) => new Session({ ...copy, area: shared, lease: { ...copy.lease, holds }, signal })
  await t.resolves(withLease(async () => true).assertOwnership())
  await t.rejects(withLease(async () => false).assertOwnership(), { code: 'lease-lost' })
  await t.rejects(withLease(async () => { throw new Error('EBADFD') }).assertOwnership(), { code: 'lease-lost' }, 'also one that cannot be asked')
  const alone = new Session({ ...copy, lease: { ...copy.lease, holds: async () => false }, signal })
  await t.resolves(alone.assertOwnership(), 'where nothing can be cut off, the lock is not asked')
})

t.test('a record of another copy, or of another epoch, is a copy that is lost; it is not written', async t => {
  const { job, area, recorded } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Session({ ...copy, signal })
  await t.resolves(session.assertOwnership())
  for (const other of [{ epoch: copy.record.epoch + 1 }, { copyId: '00000000-0000-4000-8000-000000000000' }]) {
    await writeRecord(area.copies, { ...copy.record, ...other })
    const before = await recorded()
    await t.rejects(session.assertOwnership(), { code: 'lease-lost' })
    await t.rejects(session.checkpoint(() => ({ bytesMoved: 1 })), { code: 'lease-lost' })
    t.strictSame(await recorded(), before)
  }
})

t.test('records are written one after the other, and one that cannot be written changes nothing', async t => {
  const { job, recorded } = await domainIn(t)
  const session = new Session({ ...await accepted(t, job()), signal })
  await Promise.all(Array.from({ length: 5 }, async () => { await session.checkpoint(({ bytesMoved }) => ({ bytesMoved: bytesMoved + 1 })) }))
  t.equal((await recorded()).bytesMoved, 5)
  await t.rejects(session.checkpoint(() => ({ bytesMoved: -1 })), /would be wrong/)
  t.equal(session.record.bytesMoved, 5)
})

t.test('after a lease that somebody may have held, a writer waits for what that one has left', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  const [below, between, at] = ['below', 'between', 'at'].map(name => join(top, name)) as [string, string, string]
  for (const path of [below, between, at]) await mkdir(path)
  const space = await MountSpace.make(t)
  await space.mountFuse(between, 'bindfs', '-f', below, between)
  await space.mountFuse(at, 'bindfs', '-f', '--multithreaded', between, at)
  const shared: DomainPlace = { id: 'local', path: space.path(at) }
  await prepareArea(shared, true)
  const area = await openArea(shared)
  t.teardown(async () => { await area.close() })
  t.notOk(area.local)
  await writeFile(join(below, '.vdsm-tasks/leases/target.raw'), '')
  const { recorded, mend, job } = await domainIn(t)
  await letGo(await accepted(t, job()))
  const late = await recorded()
  const decision = decide(inWorker({ ...mend, places: [shared] }))
  decision.catch(() => { /* looked at below */ })
  await until(async () => await isLeased(area.leases, 'target.raw'))
  await writeRecord(area.copies, { ...late, phase: 'deleting' })
  await t.rejects(decision, { code: 'image-interrupted' }, 'a record that became visible after the lease was taken is seen')
})

t.test('a part is continued only if it is the very file that the record names, and fits', async t => {
  const { area, at } = await domainIn(t)
  const shape = { copyId: '0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f', format: 'raw', allocation: 'sparse', virtualSize: size } as const
  const { fd, inode } = await createPart(area, shape)
  const file = { directory: area.parts, name: shape.copyId }
  const path = at(`.vdsm-tasks/parts/${shape.copyId}`)
  const reopened = async (of: Parameters<typeof reopenPart>[2] = shape, is = inode) => {
    const part = await reopenPart(area, file, of, is)
    if (part !== undefined) await closeFd(part.fd)
    return part !== undefined
  }
  await t.rejects(reopened(), { code: 'resource-busy' }, 'not while another process has it')
  await t.rejects(createPart(area, shape), { code: 'EEXIST' }, 'and it is never made over another one')
  await closeFd(fd)
  t.ok(await reopened())
  t.notOk(await reopened(shape, String(BigInt(inode) + 1n)), 'not another file of the same size')
  await truncate(path, size - 1)
  t.notOk(await reopened(), 'not one that is too short')
  await truncate(path, size + 4096)
  t.notOk(await reopened(), 'nor too long')

  const qcow2 = { ...shape, format: 'qcow2', virtualSize: MiB } as const
  const make = async (...args: string[]) => {
    await rm(path)
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...args)
    return inodeOf(await stat(path, { bigint: true }))
  }
  t.ok(await reopened(qcow2, await make(path, '1M')))
  t.notOk(await reopened(qcow2, await make(path, '2M')), 'not one of another virtual size')
  t.notOk(await reopened(qcow2, await make('-b', at('source.raw'), '-F', 'raw', path, '1M')), 'not one that reads from another file')
  const long = await make(path, '1M')
  await truncate(path, longestImageBytes(MiB, 65536))
  t.ok(await reopened(qcow2, long), 'as long as an image of its geometry may be')
  await truncate(path, longestImageBytes(MiB, 65536) + 1)
  t.notOk(await reopened(qcow2, long), 'not longer: qemu-img, which finds nothing wrong with it, is not asked')
  await truncate(path, 2 ** 40)
  t.notOk(await reopened(qcow2, long), 'and however much longer')
  const other = at('.vdsm-tasks/parts/other')
  const linked = await make(path, '1M')
  await link(path, other)
  await chmod(path, 0o400)
  t.notOk(await reopened(qcow2, linked), 'not one that has another name')
  t.equal((await stat(path)).mode & 0o777, 0o400, 'which is given to nobody')
  await rm(other)
  t.ok(await reopened(qcow2, linked), 'one that was made read-only by the run before')
  t.equal((await stat(path)).mode & 0o777, 0o660)
  const damaged = await make(path, '1M')
  const image = await open(path, 'r+')
  // an entry of the first table that points behind the end
  const l1Offset = Number((await readFile(path)).readBigUInt64BE(40))
  await image.write(Buffer.from('8000000000100200', 'hex'), 0, 8, l1Offset)
  await image.close()
  t.notOk(await reopened(qcow2, damaged), 'not one that qemu-img finds damaged')
})

t.test('a name is given to nothing but the copy, and only what was to be replaced is replaced', async t => {
  const { area, at, job, recorded, partPath } = await domainIn(t)
  await letGo(await accepted(t, job()))
  const record = await recorded()
  const target = new DirectoryTarget(area, 'target.raw')
  const part = await open(await partPath(), 'r+')
  t.teardown(async () => { await part.close() })
  t.equal(await target.standing(record), 'open')
  await writeFile(at('target.raw'), 'foreign')
  t.match(await target.giveName(record, part.fd), /may not replace/)
  t.equal(await readFile(at('target.raw'), 'utf8'), 'foreign')
  for (const phase of ['copying', 'finishing'] as const) await t.rejects(target.standing({ ...record, phase }), { code: 'target-exists' }, `a foreign file while ${phase}`)

  const identity = await target.find().then(existing => existing?.identity)
  if (identity === undefined) throw new Error('there is a file')
  const replacing = { ...record, replaces: identity }
  t.equal(await target.standing(replacing), 'open')
  await writeFile(at('target.raw'), 'written meanwhile')
  await t.rejects(target.standing(replacing), { code: 'target-exists' })
  t.match(await target.giveName(replacing, part.fd), /may not replace/)
  t.equal(await readFile(at('target.raw'), 'utf8'), 'written meanwhile')

  await rm(at('target.raw'))
  t.equal(await target.giveName(record, part.fd), undefined)
  const whole = await target.find().then(existing => existing?.identity)
  if (whole === undefined) throw new Error('it has its name')
  t.equal(await target.standing({ ...record, phase: 'finishing', target: whole }), 'ended')
  await t.rejects(target.standing(record), { code: 'target-exists' }, 'an inode proves nothing: it is used again at once')
  t.ok((await stat(await partPath())).ino === (await stat(at('target.raw'))).ino)
  await writeFile(at('target.raw'), 'a guest was here', { flag: 'r+' })
  await t.rejects(target.standing({ ...record, phase: 'finishing', target: whole }), { code: 'target-exists' }, 'nor does it once the file was written')
})

t.test('who continues a copy says so in the record, keeps what is done, and nothing else that was said of the end', async t => {
  const { area, job, mend, recorded } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Session({ ...copy, signal })
  await copierOf(session).copy()
  await letGo(copy)
  await writeRecord(area.copies, { ...await recorded(), verified: true, canceledAt: new Date().toISOString() })
  const { record, source } = await accepted(t, mend)
  t.strictSame(await recorded(), record, 'it is on the storage before anything is written')
  t.match(record, { phase: 'copying', epoch: 2, host: { id: 'node2' }, taskId: 'mend', copyId: copy.record.copyId })
  t.equal(total(record.done), size)
  t.notOk('verified' in record)
  t.notOk('canceledAt' in record)
  t.equal(source.virtualSize, size)
})

t.test('a part that is missing, or is another file, is made anew, and nothing of it is done', async t => {
  const { job, mend, recorded, partPath, at } = await domainIn(t)
  for (const spoil of [
    async (path: string) => { await rm(path) },
    async (path: string) => {
      await copyFile(at('source.raw'), `${path}.other`)
      const other = await open(`${path}.other`, 'r+')
      await other.write('different bytes', 4096)
      await other.truncate(Math.ceil(size / 4096) * 4096)
      await other.close()
      await rename(`${path}.other`, path)
    }
  ]) {
    const copy = await accepted(t, job())
    await copierOf(new Session({ ...copy, signal })).copy()
    await letGo(copy)
    const before = await recorded()
    t.equal(total(before.done), size)
    await spoil(await partPath())
    const again = await accepted(t, mend)
    t.match(again.record, { phase: 'copying', epoch: before.epoch + 1, bytesMoved: 0 })
    t.strictSame([again.record.done, again.record.begun], [[], []])
    t.not(again.record.copyId, before.copyId, 'the old name may still be seen elsewhere')
    const ending = new Session({ ...again, signal })
    await copierOf(ending).copy()
    await finish(ending, () => {})
    t.equal(await sha256(at('target.raw')), await sha256(at('source.raw')))
    await letGo(again)
    await rm(at('target.raw'))
  }
})

t.test('a copy that has its name gets nothing but its last record', async t => {
  const { job, mend, recorded, area, at } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Session({ ...copy, signal })
  await copierOf(session).copy()
  await finish(session, () => {})
  await letGo(copy)
  const { completedAt: _, target: __, ...done } = await recorded()
  await writeRecord(area.copies, { ...done, phase: 'finishing', done: [[0, size]] })
  const written = (await stat(at('target.raw'))).mtimeMs
  const single = await (await decide(inWorker(mend))).proceed()
  if (single.how !== 'finish') throw new Error(single.how)
  await single.lease.release()
  t.equal((await stat(at('target.raw'))).mtimeMs, written)
})

t.test('a source that has changed is not copied on, nor ends the copy', async t => {
  const { job, mend, at, recorded } = await domainIn(t)
  const copy = await accepted(t, job())
  const session = new Session({ ...copy, signal })
  await copierOf(session).copy()
  await writeFile(at('source.raw'), 'changed', { flag: 'r+' })
  await t.rejects(finish(session, () => {}), { code: 'source-changed' })
  t.equal((await recorded()).phase, 'copying')
  await letGo(copy)
  await t.rejects(decide(inWorker(mend)), { code: 'source-changed' })
})

t.test('a copy says that it was compared when it was, and only then', async t => {
  for (const [what, verify, touch] of [['not asked for', false, false], ['asked for', true, false], ['touched', false, true]] as const) {
    const { job, at } = await domainIn(t)
    const session = new Session({ ...await accepted(t, job({ verify })), signal })
    await copierOf(session).copy()
    if (touch) await link(at('source.raw'), at('linked.raw'))
    t.equal((await finish(session, () => {})).verified, verify || touch ? true : undefined, what)
    t.equal((await stat(at('target.raw'))).size, size, 'and it is as long as its source')
  }
})

t.test('a copy that differs from its source has no name, and nothing of it is done', async t => {
  for (const [code, touch] of [['verification-failed', false], ['source-changed', true]] as const) {
    const { job, at, partPath, recorded } = await domainIn(t)
    const session = new Session({ ...await accepted(t, job({ verify: true })), signal })
    await copierOf(session).copy()
    await writeFile(await partPath(), 'damaged', { flag: 'r+' })
    if (touch) await link(at('source.raw'), at('linked.raw'))
    await t.rejects(finish(session, () => {}), { code })
    const { phase, done, begun, bytesMoved } = await recorded()
    t.strictSame({ phase, done, begun, bytesMoved }, { phase: 'copying', done: [], begun: [[0, size]], bytesMoved: 0 })
    await t.rejects(stat(at('target.raw')), { code: 'ENOENT' })
  }
})

t.test('a name that somebody has taken meanwhile leaves the copy as it was', async t => {
  const { job, at, recorded } = await domainIn(t)
  const session = new Session({ ...await accepted(t, job()), signal })
  await copierOf(session).copy()
  await writeFile(at('target.raw'), 'foreign')
  await t.rejects(finish(session, () => {}), { code: 'target-exists' })
  t.match(await recorded(), { phase: 'copying' })
  t.equal(await readFile(at('target.raw'), 'utf8'), 'foreign')
})

t.test('an image that vanishes at the end of its copy is not done', async t => {
  const { job, recorded } = await domainIn(t)
  const copy = await accepted(t, job())
  class Vanishing extends DirectoryTarget {
    override async settle (): Promise<undefined> {}
  }
  const session = new Session({ ...copy, target: new Vanishing(copy.area, 'target.raw'), signal })
  await copierOf(session).copy()
  await t.rejects(finish(session, () => {}), { code: 'storage-failed', message: /vanished/ })
  t.equal((await recorded()).phase, 'finishing')
})

t.test('a finished copy is confirmed only while neither it nor its source was written since', async t => {
  const { job, at } = await domainIn(t)
  const session = new Session({ ...await accepted(t, job()), signal })
  await copierOf(session).copy()
  await finish(session, () => {})
  await session.lease.release()
  const confirmed = await decide(inWorker(job()))
  t.equal(confirmed.preview.outcome, 'already-done')
  const single = await confirmed.proceed()
  if (single.how !== 'done') throw new Error(single.how)
  await single.lease.release()
  const past = new Date('2026-02-02')
  await utimes(at('target.raw'), past, past)
  await t.rejects(decide(inWorker(job())), { code: 'target-exists', members: { differs: ['the target was written after the copy'] } })
})

t.test('a finished copy of another state of its source is not confirmed', async t => {
  const { job, at } = await domainIn(t)
  const session = new Session({ ...await accepted(t, job()), signal })
  await copierOf(session).copy()
  await finish(session, () => {})
  await session.lease.release()
  await writeFile(at('source.raw'), 'changed', { flag: 'r+' })
  await makeOld(at('source.raw'))
  const past = new Date('2026-03-03')
  await utimes(at('source.raw'), past, past)
  await t.rejects(decide(inWorker(job())), { code: 'target-exists', members: { differs: [/modified/] } })
})
