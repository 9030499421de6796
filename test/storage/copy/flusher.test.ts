import fs from 'node:fs'
import { constants } from 'node:os'
import { open } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import type { CopyWindow } from '../../../src/storage/copy/windows.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'

const MiB = 1024 * 1024

// What the kernel does in its own time, and never when a test wants it: each flush begins, and ends or fails when it is told to.
const flushes: Array<{ end: (error?: NodeJS.ErrnoException) => Promise<void> }> = []
const real = fs.fdatasync
fs.fdatasync = ((fd: number, callback: (error: NodeJS.ErrnoException | null) => void) => {
  flushes.push({
    end: async error => {
      if (error === undefined) await new Promise<void>(resolve => { real(fd, () => { resolve() }) })
      callback(error ?? null)
    }
  })
}) as typeof fs.fdatasync
syncBuiltinESMExports()
const { Flusher } = await import('../../../src/storage/copy/flusher.ts')

const window = (start: number, copyBytes = MiB): CopyWindow => ({ start, end: start + copyBytes, copyBytes, dataBytes: copyBytes, fresh: true, layers: [0], writes: [[start, start + copyBytes]] })
const failed = (code: 'EIO' | 'ENOSPC' | 'EDQUOT') => Object.assign(new Error(code), { code, errno: -constants.errno[code] })

/** Until everything that can happen by itself has happened. */
async function settled (): Promise<void> {
  for (let n = 0; n < 20; n++) await turn()
}

/** A flusher on a real file. It stops when it fails, as the copy does. */
async function flusherIn (t: Test, { direct = true, settle = async () => {} }: { direct?: boolean, settle?: () => Promise<void> } = {}) {
  flushes.length = 0
  const file = await open(join(await temporaryDirectory(t), 'part'), 'w+')
  t.teardown(async () => { await file.close() })
  const counted: number[][] = []
  const errors: unknown[] = []
  const stop = new AbortController()
  const flusher = new Flusher({
    fd: file.fd,
    image: 'copy.raw',
    direct,
    signal: stop.signal,
    settle: async windows => {
      counted.push(windows.map(({ start }) => start))
      await settle()
    },
    fail: error => {
      errors.push(error)
      stop.abort(error)
    }
  })
  /** Ends the flush that has begun, and waits for what comes of it. */
  const endFlush = async (error?: NodeJS.ErrnoException) => {
    const flush = flushes.shift()
    if (flush === undefined) throw new Error('no flush has begun')
    await flush.end(error)
    await settled()
  }
  return { flusher, counted, errors, stop, endFlush }
}

t.test('a flush covers what was whole before it began, and nothing that came later', async t => {
  const { flusher, counted, endFlush } = await flusherIn(t)
  flusher.add(window(0))
  flusher.add(window(1))
  flusher.add(window(2))
  t.equal(flushes.length, 1, 'one flush at a time')
  await settled()
  t.strictSame(counted, [], 'nothing counts before it is durable')
  await endFlush()
  t.strictSame(counted, [[0]], 'the first flush began when only the first window was whole')
  t.equal(flushes.length, 1, 'the next one follows by itself')
  await endFlush()
  t.strictSame(counted, [[0], [1, 2]])
  t.equal(flushes.length, 0, 'nothing is left to flush')
  await flusher.end()
})

t.test('the end is when every window is counted', async t => {
  let count = () => {}
  const { flusher, counted, endFlush } = await flusherIn(t, { settle: async () => { await new Promise<void>(resolve => { count = resolve }) } })
  flusher.add(window(0))
  flusher.add(window(1))
  let ended = false
  const end = flusher.end().then(() => { ended = true })
  await endFlush()
  t.equal(flushes.length, 1, 'the next flush does not wait for the record')
  await endFlush()
  t.strictSame(counted, [[0]], 'one record at a time')
  count()
  while (counted.length < 2) await turn()
  await settled()
  t.notOk(ended)
  count()
  await end
  t.strictSame(counted, [[0], [1]])
})

t.test('a flush that fails counts nothing, and is never tried again', async t => {
  for (const [errno, code] of [['EIO', 'storage-failed'], ['ENOSPC', 'no-space'], ['EDQUOT', 'no-space']] as const) {
    const { flusher, counted, errors, endFlush } = await flusherIn(t)
    flusher.add(window(0))
    await endFlush()
    flusher.add(window(1))
    flusher.add(window(2))
    await endFlush(failed(errno))
    t.match(errors, [{ code, message: /copy\.raw could not be made durable/, cause: { code: errno } }])
    t.equal(errors.length, 1)
    t.equal(flushes.length, 0, 'the kernel may have dropped the pages, and would call the next flush a success')
    await flusher.end()
    t.strictSame(counted, [[0]], 'what came before the error is all there is')
  }
})

t.test('what waits to be counted when the copy fails is not counted any more', async t => {
  let count = () => {}
  const { flusher, counted, stop, endFlush } = await flusherIn(t, { settle: async () => { await new Promise<void>(resolve => { count = resolve }) } })
  flusher.add(window(0))
  await endFlush()
  flusher.add(window(1))
  await endFlush()
  stop.abort(new Error('canceled'))
  count()
  await flusher.end()
  t.strictSame(counted, [[0]], 'another host may have the copy by now')
})

t.test('a record that cannot be written fails the copy', async t => {
  const { flusher, errors, endFlush } = await flusherIn(t, { settle: async () => { throw failed('ENOSPC') } })
  flusher.add(window(0))
  await endFlush()
  t.match(errors, [{ code: 'ENOSPC' }])
  await flusher.end()
})

t.test('what is written and not durable is bounded', async t => {
  const { flusher, endFlush } = await flusherIn(t, { direct: false })
  const open: string[] = []
  const room = async (name: string, bytes: number, bytesPerSecond?: number) => { await flusher.room(bytes, bytesPerSecond).then(() => { open.push(name) }) }
  void room('first', 600 * MiB)
  await settled()
  t.strictSame(open, ['first'], 'alone, a window may be as large as it is')
  void room('fast', 300 * MiB, 500 * MiB)
  await settled()
  t.strictSame(open, ['first', 'fast'], 'a fast storage takes what it can write in two seconds')
  void room('second', 1)
  await settled()
  t.strictSame(open, ['first', 'fast'])
  flusher.add(window(0, 600 * MiB))
  await endFlush()
  t.strictSame(open, ['first', 'fast', 'second'], 'there is room when a window is counted')
  await flusher.end()
})

t.test('whoever waits for room is let go when the copy has failed; past the page cache nobody waits', async t => {
  const { flusher, stop } = await flusherIn(t, { direct: false })
  await flusher.room(512 * MiB)
  const waits = flusher.room(1)
  stop.abort(new Error('canceled'))
  await t.resolves(waits)
  const { flusher: direct } = await flusherIn(t)
  await direct.room(4096 * MiB)
  await t.resolves(direct.room(4096 * MiB))
})

t.test('through the page cache, the kernel is made to write in the middle of windows, while there is a hurry', async t => {
  let isHurried = false
  const { flusher, endFlush, counted } = await flusherIn(t, { direct: false })
  flusher.start(() => isHurried)
  await settled()
  t.equal(flushes.length, 0)
  isHurried = true
  while (flushes.length === 0) await turn()
  flusher.add(window(0))
  await endFlush()
  while (flushes.length === 0) await turn()
  await settled()
  t.strictSame(counted, [], 'an early flush that began before a window was whole does not count it')
  await endFlush()
  t.strictSame(counted, [[0]])
  const end = flusher.end()
  // one that has begun is waited for
  const ending = setInterval(() => { void flushes.shift()?.end() }, 1)
  await end
  clearInterval(ending)
  t.equal(flushes.length, 0)

  const { flusher: direct } = await flusherIn(t)
  direct.start(() => true)
  await settled()
  t.equal(flushes.length, 0, 'past it there is nothing to hurry')
  await direct.end()
})
