import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import { prepareArea } from '../../src/storage/area.ts'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { compare, identical, makeDisk, MiB } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'
import { beatOf, inShared, LockObserver, mountByFuse, sharedStatus, signalAll, untilLocks } from '../helpers/shared-locks.ts'

// The proof that locks work, for as long as it takes: no alarm where they do, and no wrong image where they do not.

const attaches = Number(process.env['LOCK_ATTACHES'] ?? 50)
const attempts = Number(process.env['LOCK_ATTEMPTS'] ?? 20)
t.setTimeout(300_000 + (attaches + attempts) * 60_000)

t.test(`${attaches} times a second host comes to a mount whose locks hold, and nobody raises an alarm`, { skip: unlessRoot }, async t => {
  const { start, at: [at = ''] } = await mountByFuse(t, 1)
  const observer = new LockObserver()
  t.teardown(async () => { await observer.end() })
  const first = await start('first', at)
  observer.watch(first)
  const waits: number[] = []
  const domains = [{ id: 'shared', path: at, create: true }]
  let left = attaches
  for (let round = 0; left > 0; round++) {
    const second = await start('second', at)
    observer.watch(second)
    // some come as a new process, and some by a reload of one that is there
    for (let times = 0; times < 1 + round % 3 && left > 0; times++, left--) {
      const began = performance.now()
      if (times > 0) {
        await second.reconfigure({ domains: [] })
        await until(async () => (await second.request('GET', '/domains/shared')).status === 404)
        await second.reconfigure({ domains })
        await until(async () => (await second.request('GET', '/domains/shared')).status === 200)
      }
      const create = { kind: 'storage.createImage', domain: 'shared', image: `image-${left}.raw`, virtualSize: MiB }
      t.match(await second.done(`create-${left}`, create), { state: 'succeeded' }, `attached for the ${attaches - left}th time`)
      waits.push(performance.now() - began)
      await untilLocks(second, 'proven')
    }
    observer.leave(second)
    await second[round % 2 === 0 ? 'kill' : 'stop']()
  }
  t.comment(`a command was accepted after ${told(waits)}`)
  t.same(observer.alarms, [])
})

t.test('a host that stands still for a minute raises no alarm, nor does the other one', { skip: unlessRoot }, async t => {
  const { start, below, at: [at = ''] } = await mountByFuse(t, 1)
  const observer = new LockObserver()
  t.teardown(async () => { await observer.end() })
  const [first, second] = [await start('first', at), await start('second', at)]
  for (const agent of [first, second]) {
    observer.watch(agent)
    await untilLocks(agent, 'proven')
  }
  observer.leave(second)
  signalAll(second, 'SIGSTOP')
  await sleep(65_000)
  t.match(await sharedStatus(first), { state: 'available', locks: { state: 'proven' } })
  signalAll(second, 'SIGCONT')
  observer.watch(second)
  const before = await beatOf(below, 'second')
  await until(async () => await beatOf(below, 'second') > before + 5, 'the second host to go on')
  for (const agent of [first, second]) t.match(await untilLocks(agent, 'proven'), { state: 'available' })
  t.same(observer.alarms, [])
})

t.test(`of ${attempts} attempts to copy through two mounts at once, none leaves a wrong image`, { skip: unlessRoot }, async t => {
  const { start, below, at: [one = '', other = ''] } = await mountByFuse(t, 2)
  await prepareArea({ id: 'shared', path: below }, true)
  await makeDisk(join(below, 'source.raw'), 24 * MiB)
  const refusals: number[] = []
  const outcomes = new Map<string, number>()
  for (let attempt = 0; attempt < attempts; attempt++) {
    const image = `copy-${attempt}.${attempt % 2 === 0 ? 'qcow2' : 'raw'}`
    const bandwidth = [MiB, 4 * MiB, 12 * MiB, undefined][attempt % 4]
    const spec = inShared(copySpec('source.raw', image, { verify: attempt % 3 === 0, ...(bandwidth !== undefined && { bandwidth }) }))
    const isTogether = attempt % 5 > 2
    const first = await start('first', one)
    if (!isTogether) {
      await untilLocks(first, 'alone')
      await first.accept('copy', spec)
    }
    const second = await start('second', other)
    const began = performance.now()
    const replies = await Promise.all([isTogether ? first.refused('copy', spec) : undefined, second.refused('copy', spec)])
    refusals.push(performance.now() - began)
    const ended = await Promise.all([first, second].map(async agent => {
      const { status } = await agent.request('GET', '/tasks/copy')
      if (status !== 200) return 'refused'
      const { state, error } = await agent.finished('copy')
      return error?.code ?? state
    }))
    const word = ended.join(' and ')
    outcomes.set(word, (outcomes.get(word) ?? 0) + 1)
    t.notMatch(ended[1], 'succeeded', `the second one is refused: ${JSON.stringify(replies[1]?.body).slice(0, 200)}`)
    await Promise.all([first.kill(), second.kill()])
    const format = attempt % 2 === 0 ? 'qcow2' : 'raw'
    const isThere = await stat(join(below, image)).then(() => true, () => false)
    if (isThere) t.equal(await compare({ path: join(below, 'source.raw'), format: 'raw' }, { path: join(below, image), format }), identical, `${image} is whole`)
    // and what is left of it can be made whole
    const later = await startAgent(t, { hostId: 'later', domains: [{ id: 'shared', path: below }] })
    await untilLocks(later, 'alone')
    t.match(await later.done('copy', spec), { state: 'succeeded' })
    t.equal(await compare({ path: join(below, 'source.raw'), format: 'raw' }, { path: join(below, image), format }), identical)
    await later.kill()
  }
  t.comment(`the second host was refused after ${told(refusals)}; ${JSON.stringify(Object.fromEntries(outcomes))}`)
})

function told (times: readonly number[]): string {
  const sorted = [...times].sort((a, b) => a - b).map(Math.round)
  return `${sorted[0]} to ${sorted.at(-1)} ms, mostly ${sorted[Math.floor(sorted.length / 2)]}`
}
