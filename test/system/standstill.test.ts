import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { StandstillWatch, type Standstill } from '../../src/system/standstill.ts'
import { until } from '../helpers/processes.ts'

async function start (t: Test, ...argv: [string, ...string[]]): Promise<ChildProcess & { pid: number }> {
  const child = spawn(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { child.kill('SIGKILL') })
  await once(child, 'spawn')
  return child as ChildProcess & { pid: number }
}

/** Looks until something stands still. */
async function found (watch: StandstillWatch, ...processes: Parameters<StandstillWatch['look']>[0]): Promise<Standstill[]> {
  return await until(() => {
    const still = watch.look(processes)
    return still.length > 0 && still
  })
}

const never = 1e9

t.test('who is stopped is told at the second look, with its name, and no longer when it goes on', async t => {
  const { pid } = await start(t, 'sleep', '1000')
  const watch = new StandstillWatch(never)
  t.strictSame(watch.look([{ pid }]), [])
  process.kill(pid, 'SIGSTOP')
  t.match(await found(watch, { pid }), [{ pid, name: 'sleep', state: 'stopped', since: String }])
  t.match(watch.look([{ pid, name: 'worker' }]), [{ name: 'worker' }], 'or as it is called')
  process.kill(pid, 'SIGCONT')
  await until(() => watch.look([{ pid }]).length === 0)
  process.kill(pid, 'SIGSTOP')
  await found(watch, { pid })
  process.kill(pid, 'SIGKILL')
  await until(() => watch.look([{ pid }]).length === 0, 'the end')
})

t.test('what a process has started is looked at, too', async t => {
  const { pid } = await start(t, 'sh', '-c', 'sleep 1000; true')
  const watch = new StandstillWatch(never)
  const child = await until(async () => {
    const { stdout } = spawn('cat', [`/proc/${pid}/task/${pid}/children`])
    const [text] = await once(stdout, 'data').catch(() => []) as [Buffer?]
    return Number(text) || undefined
  })
  t.teardown(() => { process.kill(child, 'SIGKILL') })
  process.kill(child, 'SIGSTOP')
  t.match(await found(watch, { pid }), [{ pid: child, name: 'sleep', state: 'stopped' }])
})

t.test('who does nothing for long hangs, unless it rests on purpose; who works does not', async t => {
  const [idle, busy] = [await start(t, 'sleep', '1000'), await start(t, 'sh', '-c', 'while :; do :; done')]
  const watch = new StandstillWatch(100)
  t.strictSame(watch.look([idle, busy]), [])
  const still = await found(watch, idle, busy)
  t.match(still.map(({ pid, state }) => [pid, state]), [[idle.pid, 'hung']])
  const paced = new StandstillWatch(0)
  const resting = { pid: idle.pid, paced: true }
  for (let look = 0; look < 3; look++) t.strictSame(paced.look([resting]), [])
})
