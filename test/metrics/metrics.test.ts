import type { ConfigurationStatus } from '../../src/api/agent.ts'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { Client } from '../../src/client/client.ts'
import { Metrics, type MetricsSources } from '../../src/metrics/metrics.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { lint, readFamilies, type Family } from '../helpers/exposition.ts'
import { domainProcess, until } from '../helpers/processes.ts'
import { useRecordedGluster } from '../helpers/recorded-gluster.ts'
import { taskOf } from '../helpers/tasks.ts'

t.setTimeout(120_000)

const MiB = 1024 * 1024

t.test('the rules find what is wrong', t => {
  const of = (text: string) => lint(readFamilies(text).values()).length
  t.equal(of('# HELP a_total x\n# TYPE a_total counter\na_total 1\n'), 0)
  for (const bad of [
    '# HELP a x\n# TYPE a counter\na 1\n',
    '# HELP a_total x\n# TYPE a_total gauge\na_total 1\n',
    '# HELP a_total x\n# TYPE a_total counter\na_total -1\n',
    '# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n',
    '# HELP a_gauge x\n# TYPE a_gauge gauge\na_gauge 1\n',
    '# HELP aB x\n# TYPE aB gauge\naB 1\n',
    '# HELP a x\n# TYPE a gauge\na{le="1"} 1\n',
    '# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
    '# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 1\na_sum 1\na_count 1\n'
  ]) t.not(of(bad), 0, bad)
  for (const bad of ['a 1\n', '# HELP a x\n# TYPE a gauge\na 1\na 1\n', '# HELP a x\n# TYPE a gauge\na one\n']) t.throws(() => readFamilies(bad), bad)
  t.end()
})

/** The value of a sample, by its name and some of its labels. */
function valueIn (families: ReadonlyMap<string, Family>, name: string, labels: Record<string, string> = {}): number | undefined {
  const samples = [...families.values()].flatMap(({ samples }) => samples)
  return samples.find(sample => sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value))?.value
}

t.test('every measure is there and moves with what it measures, and with nothing else', async t => {
  const gluster = { retries: 0, timeouts: 0, failures: 0 }
  const events = { subscribers: 0, opened: 0, refused: 0, dropped: { backlog: 0, silent: 0 }, events: 0 }
  const late = [{ domain: 'd', late: 0 }]
  const locks: Array<{ domain: string, state: 'alone' | 'broken' }> = [{ domain: 'd', state: 'alone' }]
  let configuration: ConfigurationStatus = { state: 'current', readAt: '1970-01-01T00:00:10.000Z' }
  const retained: ReturnType<MetricsSources['tasks']> & unknown[] = []
  const metrics = new Metrics({ version: '1', hostId: 'h', tasks: () => retained, lateReads: () => late, locks: () => locks, gluster: () => gluster, configuration: () => configuration, events: () => events })
  const copy = taskOf({ id: 'a', state: 'failed', endedAt: '2026-01-01T00:00:10.000Z', createdAt: '2026-01-01T00:00:00.000Z' })
  const problem = (code: string) => ({ type: '', title: '', status: 409, code, detail: '' })
  const of = { kind: copy.kind }
  const table: Array<[what: string, act: () => void, moves: Array<[name: string, labels: Record<string, string>, by: number]>]> = [
    ['a reload fails', () => { configuration = { ...configuration, state: 'failed' } }, [['vdsm_tasks_config_reload_failed', {}, 1]]],
    ['another one does not', () => { configuration = { state: 'current', readAt: '1970-01-01T00:00:15.000Z' } }, [['vdsm_tasks_config_reload_failed', {}, -1], ['vdsm_tasks_config_last_success_timestamp_seconds', {}, 5]]],
    ['a task is retained', () => { retained.push(copy) }, [['vdsm_tasks_tasks', { ...of, state: 'failed' }, 1]]],
    ['a task ends', () => { metrics.transition(copy) }, [['vdsm_tasks_tasks_finished_total', { ...of, state: 'failed' }, 1], ['vdsm_tasks_task_duration_seconds_count', of, 1], ['vdsm_tasks_task_duration_seconds_sum', of, 10]]],
    ['a lease is held by another host', () => { metrics.transition({ ...copy, error: problem('resource-busy') }) }, [['vdsm_tasks_lease_conflicts_total', { code: 'resource-busy' }, 1], ['vdsm_tasks_tasks_finished_total', {}, 1], ['vdsm_tasks_task_duration_seconds_count', {}, 1], ['vdsm_tasks_task_duration_seconds_sum', {}, 10]]],
    ['a lease is lost', () => { metrics.transition({ ...copy, error: problem('lease-lost') }) }, [['vdsm_tasks_lease_conflicts_total', { code: 'lease-lost' }, 1], ['vdsm_tasks_tasks_finished_total', {}, 1], ['vdsm_tasks_task_duration_seconds_count', {}, 1], ['vdsm_tasks_task_duration_seconds_sum', {}, 10]]],
    ['a copy makes a window durable', () => { metrics.copyMeasured('d', 'a', { windowSeconds: 2, movedBytes: 100 }) }, [['vdsm_tasks_copy_bytes_total', { domain: 'd' }, 100], ['vdsm_tasks_copy_window_duration_seconds_count', { domain: 'd' }, 1], ['vdsm_tasks_copy_window_duration_seconds_sum', { domain: 'd' }, 2]]],
    ['a copy does something again', () => { metrics.copyMeasured('d', 'a', { redoneBytes: 50 }) }, [['vdsm_tasks_copy_redone_bytes_total', { domain: 'd' }, 50]]],
    ['a domain answers', () => { metrics.domainRead('d', { seconds: 0.25, late: false }) }, [['vdsm_tasks_domain_read_duration_seconds_count', { domain: 'd' }, 1], ['vdsm_tasks_domain_read_duration_seconds_sum', { domain: 'd' }, 0.25]]],
    ['a domain hangs', () => { metrics.domainRead('d', { seconds: 5, late: true }) }, [['vdsm_tasks_domain_hangs_total', { domain: 'd' }, 1], ['vdsm_tasks_domain_read_duration_seconds_count', { domain: 'd' }, 1], ['vdsm_tasks_domain_read_duration_seconds_sum', { domain: 'd' }, 5]]],
    ['its answer is overdue', () => { late[0] = { domain: 'd', late: 3 } }, [['vdsm_tasks_domain_late_reads', { domain: 'd' }, 3]]],
    ['locks are broken', () => { locks[0] = { domain: 'd', state: 'broken' } }, [['vdsm_tasks_domain_locks', { domain: 'd', state: 'broken' }, 1]]],
    ['gluster is called', () => { metrics.glusterCall(1.5) }, [['vdsm_tasks_gluster_call_duration_seconds_count', {}, 1], ['vdsm_tasks_gluster_call_duration_seconds_sum', {}, 1.5]]],
    ['gluster is busy', () => { gluster.retries += 2 }, [['vdsm_tasks_gluster_retries_total', {}, 2]]],
    ['gluster hangs', () => { gluster.timeouts++ }, [['vdsm_tasks_gluster_timeouts_total', {}, 1]]],
    ['gluster fails', () => { gluster.failures++ }, [['vdsm_tasks_gluster_failures_total', {}, 1]]],
    ['somebody follows', () => { events.subscribers++; events.opened++ }, [['vdsm_tasks_event_streams', {}, 1], ['vdsm_tasks_event_streams_opened_total', {}, 1]]],
    ['too many follow', () => { events.refused++ }, [['vdsm_tasks_event_streams_refused_total', {}, 1]]],
    ['somebody is too slow', () => { events.dropped.backlog++ }, [['vdsm_tasks_event_streams_dropped_total', { reason: 'backlog' }, 1]]],
    ['something happens', () => { events.events += 7 }, [['vdsm_tasks_events_total', {}, 7]]]
  ]
  // it grows by itself
  const age = 'vdsm_tasks_copy_checkpoint_age_seconds'
  const own = async () => new Map([...readFamilies(await metrics.text())].filter(([name]) => name.startsWith('vdsm_tasks_')))
  const flat = (families: Map<string, Family>) => new Map([...families.values()].flatMap(({ samples }) => samples.filter(({ name }) => !name.endsWith('_bucket') && name !== age)).map(({ name, labels, value }) => [JSON.stringify([name, labels]), { name, labels, value }]))
  const moved = new Set<string>()
  for (const [what, act, moves] of table) {
    const before = flat(await own())
    act()
    const after = flat(await own())
    const changes = [...after].flatMap(([key, { name, labels, value }]) => value === (before.get(key)?.value ?? 0) ? [] : [{ name, labels, by: value - (before.get(key)?.value ?? 0) }])
    t.same(changes.map(({ name, by }) => `${name} ${by}`).sort(), moves.map(([name, , by]) => `${name} ${by}`).sort(), what)
    for (const [name, labels] of moves) t.ok(changes.some(change => change.name === name && Object.entries(labels).every(([label, value]) => change.labels[label] === value)), `${what}: ${name} ${JSON.stringify(labels)}`)
    for (const { name } of changes) moved.add(name.replace(/_(count|sum)$/, ''))
  }
  metrics.copyBegan('d', 'a')
  t.ok((valueIn(await own(), age, { domain: 'd' }) ?? -1) >= 0, 'a running copy has a checkpoint of some age')
  metrics.copyEnded('a')
  t.equal(valueIn(await own(), age, { domain: 'd' }), undefined)
  t.same([...(await own()).keys()].filter(name => !moved.has(name)).sort(), ['vdsm_tasks_build_info', age], 'no other measure is left out here')
})

/** What promtool of Prometheus finds, where it is installed. */
function promtool (text: string): string[] {
  const { error, status, stdout, stderr } = spawnSync('promtool', ['check', 'metrics'], { input: text, encoding: 'utf8' })
  return error !== undefined || status === 0 ? [] : [stdout, stderr]
}

t.test('the measures keep the conventions, are there during a copy, and tell what happened', async t => {
  const directory = await makeDirectory(t)
  await useRecordedGluster(t, directory, { busyOnce: true })
  const { address, pid } = await startAgent(t, directory, { domains: [{ id: 'local', path: './images', create: true, sample: true }, { id: 'hung', path: './hung', create: true }] })
  await until(async () => (await fetch(`${address}/domains/local/images/sample.raw`)).ok, 'the sample image')
  const client = new Client({ url: address })
  t.teardown(async () => { await client.close() })
  const scrape = async () => {
    const response = await fetch(`${address}/metrics`)
    t.match(response.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
    const text = await response.text()
    const families = readFamilies(text)
    t.same(lint(families.values()), [])
    t.same(promtool(text), [])
    return (name: string, labels?: Record<string, string>) => valueIn(families, name, labels)
  }
  await scrape()
  const ready = async () => {
    const reply = await fetch(`${address}/readyz`)
    return { status: reply.status, body: await reply.json() as { domains: object[] } }
  }
  t.match(await ready(), { status: 200, body: { ready: true, domains: [{ domain: 'local', state: 'available' }, { domain: 'hung', state: 'available' }], gluster: { available: true } } })

  const controller = new AbortController()
  await fetch(`${address}/events`, { signal: controller.signal })
  await client.putTask('slow', { kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image: 'slow.raw' }, bandwidth: 8 * MiB })
  const during = await until(async () => {
    const value = await scrape()
    return (value('vdsm_tasks_copy_bytes_total', { domain: 'local' }) ?? 0) > 0 ? value : undefined
  }, 'bytes to be counted')
  t.equal(during('vdsm_tasks_tasks', { kind: 'storage.copyImage', state: 'running' }), 1)
  t.equal(during('vdsm_tasks_event_streams'), 1)
  const age = during('vdsm_tasks_copy_checkpoint_age_seconds', { domain: 'local' }) ?? -1
  t.ok(age >= 0 && age < 30, `the age of the checkpoint: ${age}`)
  t.ok((during('vdsm_tasks_copy_window_duration_seconds_count', { domain: 'local' }) ?? 0) > 0, 'windows')

  await client.cancelTask('slow')
  await client.waitForTask('slow')
  // the storage of the other domain hangs, as far as anybody can tell
  const reader = domainProcess(pid, 'hung')
  process.kill(reader, 'SIGSTOP')
  // what was seen last is told at once: it takes a few seconds until that is known
  const hung = until(async () => {
    const answer = await ready()
    return answer.status === 503 && answer
  }, 'the agent to see that a storage hangs')
  const holder = spawn(process.execPath, [...process.execArgv, fileURLToPath(new URL('../helpers/hold-lease.ts', import.meta.url)), join(directory, 'images/.vdsm-tasks/leases'), 'held.raw', 'exclusive'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => { holder.kill('SIGKILL') })
  t.equal(String((await once(holder.stdout, 'data'))[0]), 'taken\n')
  await t.rejects(client.putTask('held', { kind: 'storage.createImage', domain: 'local', image: 'held.raw', virtualSize: MiB }, { waitSeconds: 30 }), { code: 'resource-busy' })
  await client.operations()

  await client.putTask('on', { kind: 'storage.mendImage', domain: 'local', image: 'slow.raw', bandwidth: 1024 * MiB })
  t.match(await client.waitForTask('on'), { state: 'succeeded' })
  t.match(await hung, { status: 503, body: { ready: false, domains: [{ domain: 'local', state: 'available' }, { domain: 'hung', state: 'unresponsive', detail: String }] } })
  t.equal((await fetch(`${address}/healthz`)).status, 200, 'alive it is')
  const after = await scrape()
  const moved = after('vdsm_tasks_copy_bytes_total', { domain: 'local' }) ?? 0
  t.ok(moved > 90 * MiB && moved < 200 * MiB, `bytes moved: ${moved}`)
  t.equal(after('vdsm_tasks_copy_checkpoint_age_seconds'), undefined, 'no copy, no age')
  t.ok((after('vdsm_tasks_copy_redone_bytes_total', { domain: 'local' }) ?? 0) > 0, 'what was begun is copied again')
  t.equal(after('vdsm_tasks_tasks_finished_total', { kind: 'storage.copyImage', state: 'canceled' }), 1)
  t.equal(after('vdsm_tasks_task_duration_seconds_count', { kind: 'storage.mendImage' }), 1)
  t.ok((after('vdsm_tasks_domain_read_duration_seconds_count', { domain: 'local' }) ?? 0) > 0, 'reads of the domain')
  t.equal(after('vdsm_tasks_domain_late_reads', { domain: 'local' }), 0)
  t.ok((after('nodejs_eventloop_lag_p99_seconds') ?? -1) >= 0, 'the lag of the event loop')
  t.ok((after('vdsm_tasks_domain_hangs_total', { domain: 'hung' }) ?? 0) > 0, 'a domain hangs')
  t.ok((after('vdsm_tasks_domain_late_reads', { domain: 'hung' }) ?? 0) > 0)
  t.equal(after('vdsm_tasks_lease_conflicts_total', { code: 'resource-busy' }), 1)
  t.ok((after('vdsm_tasks_gluster_call_duration_seconds_count') ?? 0) > 1)
  t.ok((after('vdsm_tasks_gluster_retries_total') ?? 0) > 0, 'Gluster was busy')
  t.equal(after('vdsm_tasks_event_streams_opened_total'), 1)
  t.ok((after('vdsm_tasks_events_total') ?? 0) > 5)
  t.not(after('vdsm_tasks_event_streams_dropped_total', { reason: 'backlog' }), undefined)
  controller.abort()
  process.kill(reader, 'SIGCONT')
  await until(async () => (await ready()).status === 200, 'the domain to answer again')
  t.equal((await scrape())('vdsm_tasks_domain_late_reads', { domain: 'hung' }), 0)
})
