import { constants, closeSync, openSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Plan } from '../../../src/storage/copy/plan.ts'
import type { Source } from '../../../src/storage/copy/source.ts'
import type { CopyWindow } from '../../../src/storage/copy/windows.ts'
import { subtract, total, union, type Ranges } from '../../../src/storage/ranges.ts'
import { makeDirectory } from '../../helpers/built-agent.ts'
import { needs } from '../../helpers/needs.ts'

needs('qemu-img')

const MiB = 1024 * 1024

/** A raw source with data in some of its MiB, open for qemu-img. */
async function makeSource (t: Test, mebibytes: number, hasData: (index: number) => boolean): Promise<Source> {
  const path = join(await makeDirectory(t), 'source.raw')
  const file = await open(path, 'w')
  await file.truncate(mebibytes * MiB)
  const block = Buffer.alloc(MiB, 'data')
  for (let index = 0; index < mebibytes; index++) if (hasData(index)) await file.write(block, 0, MiB, index * MiB)
  await file.close()
  const fd = openSync(path, constants.O_RDONLY)
  t.teardown(() => { closeSync(fd) })
  const identity = { inode: '1', size: mebibytes * MiB, modified: '0', changed: '0' }
  return { files: [{ image: 'source.raw', format: 'raw', identity, fd, endBytes: mebibytes * MiB, virtualSize: mebibytes * MiB }], virtualSize: mebibytes * MiB, dataBytes: 0, changes: async () => [] }
}

async function allWindows (plan: Plan, windowBytes: number): Promise<{ windows: CopyWindow[], zero: Ranges }> {
  const windows: CopyWindow[] = []
  let zero: Ranges = []
  for (;;) {
    const window = await plan.next(windowBytes)
    zero = union(zero, plan.takeZero())
    if (window === undefined) return { windows, zero }
    windows.push(window)
  }
}

const spans = (windows: readonly CopyWindow[]): Ranges => windows.map(({ start, end }) => [start, end])

t.test('every byte of a disk is settled once: in a window, or as zeros between windows', async t => {
  const source = await makeSource(t, 700, index => index < 10 || (index >= 400 && index < 410))
  const plan = new Plan({ source, size: 700 * MiB, align: MiB, lanes: 1, done: [], begun: [], signal: new AbortController().signal })
  const { windows, zero } = await allWindows(plan, 64 * MiB)
  t.same(windows.map(({ writes }) => writes), [[[0, 10 * MiB], [400 * MiB, 410 * MiB]]], 'one window skips the gap')
  t.same(spans(windows), [[0, 410 * MiB]])
  t.same(zero, [[410 * MiB, 700 * MiB]])
})

t.test('a target that is larger than its source has no windows beyond that, also when all of it counts as begun', async t => {
  const source = await makeSource(t, 12, index => index < 10)
  const plan = new Plan({ source, size: 300 * MiB, align: 2 * MiB, lanes: 1, done: [], begun: [[0, 300 * MiB]], signal: new AbortController().signal })
  const { windows, zero } = await allWindows(plan, 8 * MiB)
  t.same(spans(windows), [[0, 8 * MiB], [8 * MiB, 12 * MiB]])
  t.notOk(windows.some(({ fresh }) => fresh))
  t.same(zero, [[12 * MiB, 300 * MiB]])
})

t.test('data and holes that alternate make large windows, also when a crashed copy is continued', async t => {
  const source = await makeSource(t, 128, index => index % 2 === 0)
  const first = new Plan({ source, size: 128 * MiB, align: MiB, lanes: 1, done: [], begun: [], signal: new AbortController().signal })
  const begun = await first.next(16 * MiB)
  t.match(begun, { start: 0, dataBytes: 16 * MiB, fresh: true })
  t.ok(total(first.takeZero()) <= MiB, 'zeros behind the next window are not settled ahead of it')

  // the first window was named and done, the second named and not done
  const second = await first.next(16 * MiB)
  const done = spans([begun].filter(window => window !== undefined))
  const continued = new Plan({ source, size: 128 * MiB, align: MiB, lanes: 1, done, begun: union(done, spans([second].filter(window => window !== undefined))), signal: new AbortController().signal })
  const { windows, zero } = await allWindows(continued, 32 * MiB)
  t.ok(windows.length <= 4, `${windows.length} windows for 48 MiB of data`)
  t.equal(windows[0]?.fresh, false, 'what was begun is not taken for zero')
  t.same(subtract([[0, 128 * MiB]], union(union(done, spans(windows)), zero)), [], 'nothing is left out')
  t.equal(total(spans(windows)) + total(zero), 128 * MiB - total(done), 'nothing is done twice')
})

t.test('what is left at the end is dealt out to all lanes alike', async t => {
  const source = await makeSource(t, 400, () => true)
  const plan = (size: number) => new Plan({ source, size: size * MiB, align: MiB, lanes: 2, done: [], begun: [], signal: new AbortController().signal })
  const lengths = async (size: number, windowBytes: number) => (await allWindows(plan(size), windowBytes * MiB)).windows.map(({ start, end }) => (end - start) / MiB)
  t.same(await lengths(400, 300), [200, 200])
  t.same(await lengths(400, 180), [100, 100, 100, 100], 'in as many windows as it takes, and never more than was asked for')
  t.same(await lengths(100, 90), [64, 36], 'but for little, no process more is started')
})
