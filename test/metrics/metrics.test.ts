import t from 'tap'
import { Client } from '../../src/client/client.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { lint, readFamilies } from '../helpers/exposition.ts'
import { until } from '../helpers/processes.ts'

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

t.test('the measures keep the conventions, are there during a copy, and tell what happened', async t => {
  const directory = await makeDirectory(t)
  const { address } = await startAgent(t, directory)
  const client = new Client({ url: address })
  t.teardown(async () => { await client.close() })
  const scrape = async () => {
    const response = await fetch(`${address}/metrics`)
    t.match(response.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
    const families = readFamilies(await response.text())
    t.same(lint(families.values()), [])
    return (name: string, labels: Record<string, string> = {}) => {
      const family = [...families.values()].find(family => name.startsWith(family.name) && family.samples.some(sample => sample.name === name))
      return family?.samples.find(sample => sample.name === name && Object.entries(labels).every(([label, value]) => sample.labels[label] === value))?.value
    }
  }
  await scrape()

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
  await client.putTask('on', { kind: 'storage.mendImage', domain: 'local', image: 'slow.raw' })
  t.match(await client.waitForTask('on'), { state: 'succeeded' })
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
  t.not(after('vdsm_tasks_gluster_retries_total'), undefined)
  t.not(after('vdsm_tasks_event_streams_dropped_total', { reason: 'backlog' }), undefined)
  controller.abort()
})
