import t, { type Test } from 'tap'
import type { BrokenImage, Copy } from '../../src/api/image.ts'
import type { LockStatus } from '../../src/api/domain.ts'
import type { TaskSpec } from '../../src/api/kinds.ts'
import { isAskedFor } from '../../src/storage/layout/copy-state.ts'
import { Locks } from '../../src/storage/locks.ts'
import type { CopiesQuery } from '../../src/storage/protocol.ts'
import { Recovery, taskIdOf, type RecoveryPolicy } from '../../src/storage/recovery.ts'
import { Clock } from '../helpers/clock.ts'

const minuteMs = 60_000
const mend = (image: string): TaskSpec => ({ kind: 'storage.mendImage', domain: 'd', image })

/** A storage on which these copies are interrupted: name of the image, and the host that was copying. */
function storageOf (interrupted: Map<string, { host: string, canceled?: boolean, state?: Copy['state'], taskId?: string }>, locks: Locks) {
  return {
    id: 'd',
    locks,
    copies: async (wanted: CopiesQuery): Promise<Copy[]> => [...interrupted].map(([image, { host, canceled = false, state = 'interrupted', taskId }]): Copy => ({
      domain: 'd',
      image,
      state,
      copy: {
        copyId: '', phase: 'copying', host: { id: host }, bytesTotal: 1, bytesDone: 0, createdAt: '', checkpointAt: '', epoch: 1, ...(canceled && { canceledAt: '' }), ...(taskId !== undefined && { taskId })
      }
    })).filter(copy => isAskedFor(copy, wanted)),
    fixes: async (): Promise<BrokenImage[]> => [...interrupted.keys()].map(image => ({
      image, state: 'interrupted', detail: '', fixes: [{ action: 'mend', description: '', task: mend(image) }, { action: 'clean', description: '', task: { kind: 'storage.deleteImage', domain: 'd', image } }]
    }))
  }
}

async function settle (): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise(resolve => { setImmediate(resolve) })
}

function begin (t: Test, policy: RecoveryPolicy, interrupted: Parameters<typeof storageOf>[0], claim?: () => void, prepared: Promise<void> = Promise.resolve()) {
  const clock = new Clock(t)
  const locks = new Locks('d', { enforced: true })
  locks.set({ state: 'proven', agents: 1 })
  const claimed: Array<[string, TaskSpec]> = []
  const recovery = new Recovery({
    policy,
    hostId: 'me',
    domains: () => [storageOf(interrupted, locks)],
    claim: (id, spec) => {
      claimed.push([id, spec])
      claim?.()
    },
    log: { info: () => {}, warn: () => {} }
  })
  recovery.start(prepared)
  return {
    recovery,
    locks,
    claimed,
    /** What was claimed within so many minutes. */
    within: async (minutes: number): Promise<string[]> => {
      const before = claimed.length
      for (let minute = 0; minute < minutes * 2; minute++) {
        clock.pass(minuteMs / 2)
        await settle()
      }
      return claimed.slice(before).map(([id]) => id)
    }
  }
}

t.test('nothing is continued unless it was configured', async t => {
  const { within } = begin(t, 'manual', new Map([['a', { host: 'me' }]]))
  t.same(await within(120), [])
})

t.test('a host continues its own copies, those that it had left when it was started', async t => {
  const interrupted = new Map([['a', { host: 'me' }], ['b', { host: 'other' }], ['c', { host: 'me', canceled: true }], ['d', { host: 'me', state: 'copying' as const }]])
  const { claimed, within } = begin(t, 'own', interrupted)
  await settle()
  t.same(claimed, [['recover.d.a', mend('a')]])
  interrupted.delete('a')
  interrupted.set('later', { host: 'me' })
  t.same(await within(120), [], 'who began the later one is told of its end')
})

t.test('a host continues a copy of its own that the deadline of accepting has ended, and no other one that failed', async t => {
  const interrupted = new Map<string, { host: string, taskId?: string }>()
  const { recovery, within } = begin(t, 'own', interrupted)
  await settle()
  interrupted.set('failed', { host: 'me', taskId: 'failed' })
  interrupted.set('late', { host: 'me', taskId: 'late' })
  interrupted.set('theirs', { host: 'other', taskId: 'late' })
  recovery.overdue('late')
  recovery.overdue('left-nothing')
  t.same(await within(1.5), ['recover.d.late'])
  interrupted.set('again', { host: 'me', taskId: 'left-nothing' })
  interrupted.delete('late')
  t.same(await within(3), [], 'an id means the copy that it was then')
})

t.test('any host continues what another has left, also later, but not what somebody has canceled', async t => {
  const interrupted = new Map<string, { host: string, canceled?: boolean }>([['canceled', { host: 'other', canceled: true }]])
  const { claimed, within } = begin(t, 'any', interrupted)
  await settle()
  t.same(claimed, [])
  interrupted.set('a', { host: 'other' })
  t.same(await within(1.5), ['recover.d.a'])
})

t.test('nothing is continued while it is not certain that locks keep others away', async t => {
  const problem = (code: 'locks-broken' | 'domain-id-conflict' | 'host-id-duplicate') => ({ code, detail: '' })
  const cases: Array<[policy: RecoveryPolicy, status: LockStatus, expected: string[]]> = [
    ['any', { state: 'proven', agents: 1 }, ['recover.d.a']],
    ['any', { state: 'alone', agents: 0 }, ['recover.d.a']],
    ['any', { state: 'proven', agents: 1, problems: [problem('host-id-duplicate')] }, ['recover.d.a']],
    ['any', { state: 'checking', agents: 1 }, []],
    ['any', { state: 'broken', agents: 1, problems: [problem('locks-broken')] }, []],
    ['any', { state: 'conflict', agents: 1, problems: [problem('domain-id-conflict')] }, []],
    ['own', { state: 'broken', agents: 1, problems: [problem('locks-broken')] }, []],
    ['own', { state: 'proven', agents: 1, problems: [problem('host-id-duplicate')] }, []]
  ]
  for (const [policy, status, expected] of cases) {
    await t.test(`${policy}, ${JSON.stringify(status)}`, async t => {
      const { claimed, within, locks, recovery } = begin(t, policy, new Map([['a', { host: 'me' }]]))
      locks.set(status)
      await within(2)
      t.same([...new Set(claimed.map(([id]) => id))], expected)
      locks.set({ state: 'proven', agents: 1 })
      await within(3)
      t.equal(claimed[0]?.[0], 'recover.d.a', 'as soon as it is certain')
      recovery.stop()
    })
  }
})

t.test('a domain that is never there keeps nobody waiting', async t => {
  const { claimed, within } = begin(t, 'any', new Map([['a', { host: 'other' }]]), undefined, new Promise(() => {}))
  await settle()
  t.same(claimed, [], 'for a moment, all are waited for')
  t.same(await within(0.5), ['recover.d.a'])
})

t.test('a copy that keeps failing is tried again after ever longer pauses, and anew when it had been well in between', async t => {
  const interrupted = new Map([['a', { host: 'me' }]])
  const { within, recovery } = begin(t, 'own', interrupted, () => { throw new Error('refused') })
  const counts: number[] = []
  for (const minutes of [8, 8, 16, 32, 64, 180]) counts.push((await within(minutes)).length)
  t.ok((counts[0] ?? 0) >= 2 && (counts[0] ?? 0) <= 4, counts.join())
  t.ok(counts.slice(1, 5).every(count => count <= 2), counts.join())
  t.ok((counts[5] ?? 0) >= 2, 'never given up')
  interrupted.delete('a')
  await within(3)
  interrupted.set('a', { host: 'me' })
  t.ok((await within(2)).length > 0)
  recovery.stop()
  t.same(await within(120), [])
})

t.test('the id of the task is the same on every host, and is one', async t => {
  t.equal(taskIdOf('local', 'disk.qcow2'), 'recover.local.disk.qcow2')
  const odd = [taskIdOf('local', 'a b(1).raw'), taskIdOf('local', 'a b1.raw'), taskIdOf('local', `${'x'.repeat(150)} ${'y'.repeat(49)}`)]
  t.equal(new Set(odd).size, 3)
  for (const id of odd) t.match(id, /^[A-Za-z0-9][A-Za-z0-9._~:@=+,-]{0,254}$/)
})
