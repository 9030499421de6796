import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { ConfigurationStatus } from '../api/agent.ts'
import type { LockStatus } from '../api/domain.ts'
import type { Task } from '../api/task.ts'
import type { CopyMeasure } from '../storage/protocol.ts'

/** What is read from the parts of the agent when somebody scrapes. */
export interface MetricsSources {
  version: string
  hostId: string
  /** The tasks that are retained now. */
  tasks: () => Iterable<Task>
  /** Reads that a domain has not answered in time and still has not. */
  lateReads: () => Iterable<{ domain: string, late: number }>
  /** What is known of the locks in each domain. */
  locks: () => Iterable<{ domain: string, state: LockStatus['state'] }>
  gluster: () => { retries: number, timeouts: number, failures: number }
  /** What came of the last attempt to read the configuration. */
  configuration: () => ConfigurationStatus
  events: () => { subscribers: number, opened: number, refused: number, dropped: Readonly<Record<string, number>>, events: number }
}

const seconds = { short: [0.001, 0.005, 0.025, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60], long: [0.1, 0.5, 1, 2, 4, 8, 16, 30, 60] }
const taskSeconds = [0.1, 1, 10, 60, 300, 1800, 3600, 6 * 3600, 24 * 3600]
/** What a task fails with that wanted a lease of somebody else. */
const conflictCodes = ['resource-busy', 'lease-lost'] as const
/** Of the defaults, those whose names say what they are not: gauges that are called totals. */
const misnamed = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total']

/** Measures of the agent in the Prometheus text format. The parts of the agent know nothing of it: they are given plain functions. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #checkpoints = new Map<string, { domain: string, at: number }>()
  readonly #finished
  readonly #durations
  readonly #conflicts
  readonly #moved
  readonly #redone
  readonly #windows
  readonly #reads
  readonly #hangs
  readonly #glusterCalls

  constructor (sources: MetricsSources) {
    const registers = [this.#registry]
    const counter = <L extends string>(name: string, help: string, ...labelNames: L[]) => new Counter({ name, help, labelNames, registers })
    const histogram = <L extends string>(name: string, help: string, buckets: number[], ...labelNames: L[]) => new Histogram({ name, help, buckets, labelNames, registers })
    /** Set anew at each scrape. */
    const read = <L extends string>(Kind: typeof Gauge | typeof Counter, name: string, help: string, labelNames: L[], values: () => Iterable<[Partial<Record<L, string>>, number]>) => {
      const metric = new Kind({
        name,
        help,
        labelNames,
        registers,
        collect: () => {
          metric.reset()
          for (const [labels, value] of values()) metric.inc(labels, value)
        }
      })
    }

    collectDefaultMetrics({ register: this.#registry })
    for (const name of misnamed) this.#registry.removeSingleMetric(name)

    read(Gauge, 'vdsm_tasks_build_info', 'Which version of the agent runs, and on which host; always 1.', ['version', 'host'], () => [[{ version: sources.version, host: sources.hostId }, 1]])

    read(Gauge, 'vdsm_tasks_config_reload_failed', 'Whether the last attempt to read the configuration again failed: 1 or 0. /readyz tells why.', [], () => [[{}, sources.configuration().state === 'failed' ? 1 : 0]])
    read(Gauge, 'vdsm_tasks_config_last_success_timestamp_seconds', 'When all of the configuration was last read and put in force.', [], () => [[{}, Date.parse(sources.configuration().readAt) / 1000]])

    read(Gauge, 'vdsm_tasks_tasks', 'Tasks that are retained now, by kind and state.', ['kind', 'state'], function * () { for (const { kind, state } of sources.tasks()) yield [{ kind, state }, 1] })
    this.#finished = counter('vdsm_tasks_tasks_finished_total', 'Tasks that have finished, by kind and the state they ended in.', 'kind', 'state')
    this.#durations = histogram('vdsm_tasks_task_duration_seconds', 'From the creation of a task to its end.', taskSeconds, 'kind')
    this.#conflicts = counter('vdsm_tasks_lease_conflicts_total', 'Tasks that failed because somebody else held the lease of an image (resource-busy) or had taken it over (lease-lost).', 'code')
    // a rate needs a beginning
    for (const code of conflictCodes) this.#conflicts.inc({ code }, 0)

    this.#moved = counter('vdsm_tasks_copy_bytes_total', 'Bytes of data that copies have made durable, by the domain they were written to.', 'domain')
    this.#redone = counter('vdsm_tasks_copy_redone_bytes_total', 'Bytes that had been begun before an interruption and are copied again.', 'domain')
    this.#windows = histogram('vdsm_tasks_copy_window_duration_seconds', 'How long windows of copies took: about what a crash costs.', seconds.long, 'domain')
    const checkpoints = this.#checkpoints
    read(Gauge, 'vdsm_tasks_copy_checkpoint_age_seconds', 'Time since the last progress of the running copy that waits longest for some, by domain.', ['domain'], () => {
      const oldest = new Map<string, number>()
      for (const { domain, at } of checkpoints.values()) oldest.set(domain, Math.max(oldest.get(domain) ?? 0, (performance.now() - at) / 1000))
      return [...oldest].map(([domain, age]): [{ domain: string }, number] => [{ domain }, age])
    })

    this.#reads = histogram('vdsm_tasks_domain_read_duration_seconds', 'How long reads of a domain took, until its answer or the deadline.', seconds.short, 'domain')
    this.#hangs = counter('vdsm_tasks_domain_hangs_total', 'Reads of a domain that were not answered before their deadline.', 'domain')
    read(Gauge, 'vdsm_tasks_domain_late_reads', 'Reads of a domain that are past their deadline and still have no answer.', ['domain'], function * () { for (const { domain, late } of sources.lateReads()) yield [{ domain }, late] })

    read(Gauge, 'vdsm_tasks_domain_locks', 'Whether locks keep other hosts away, by domain; 1 for the present state. broken and conflict refuse commands.', ['domain', 'state'], function * () {
      for (const { domain, state } of sources.locks()) yield [{ domain, state }, 1]
    })

    this.#glusterCalls = histogram('vdsm_tasks_gluster_call_duration_seconds', 'How long runs of the gluster command took.', seconds.short)
    read(Counter, 'vdsm_tasks_gluster_retries_total', 'Repetitions of a gluster command because Gluster was busy.', [], () => [[{}, sources.gluster().retries]])
    read(Counter, 'vdsm_tasks_gluster_timeouts_total', 'Runs of the gluster command that did not end before their deadline.', [], () => [[{}, sources.gluster().timeouts]])
    read(Counter, 'vdsm_tasks_gluster_failures_total', 'Runs of the gluster command that failed or were refused.', [], () => [[{}, sources.gluster().failures]])

    read(Gauge, 'vdsm_tasks_event_streams', 'Clients that follow the events now.', [], () => [[{}, sources.events().subscribers]])
    read(Counter, 'vdsm_tasks_event_streams_opened_total', 'Streams of events that were opened.', [], () => [[{}, sources.events().opened]])
    read(Counter, 'vdsm_tasks_event_streams_refused_total', 'Streams of events that were refused because there were too many.', [], () => [[{}, sources.events().refused]])
    read(Counter, 'vdsm_tasks_event_streams_dropped_total', 'Streams of events that were cut off because their client was too slow.', ['reason'], function * () { for (const [reason, count] of Object.entries(sources.events().dropped)) yield [{ reason }, count] })
    read(Counter, 'vdsm_tasks_events_total', 'Events that were told, numbers of progress not counted.', [], () => [[{}, sources.events().events]])
  }

  /** The media type of `text`. */
  get contentType (): string { return this.#registry.contentType }

  /** Everything, in the text format of Prometheus. */
  async text (): Promise<string> {
    return await this.#registry.metrics()
  }

  /** A task went from one state to another. */
  transition ({ kind, state, createdAt, endedAt, error }: Task): void {
    if (endedAt === undefined) return
    this.#finished.inc({ kind, state })
    this.#durations.observe({ kind }, (Date.parse(endedAt) - Date.parse(createdAt)) / 1000)
    const code = conflictCodes.find(code => code === error?.code)
    if (code !== undefined) this.#conflicts.inc({ code })
  }

  /** A copy into the domain was accepted; from now on its checkpoints have an age. */
  copyBegan (domain: string, taskId: string): void {
    this.#checkpoints.set(taskId, { domain, at: performance.now() })
  }

  /** A running copy has measured something. */
  copyMeasured (domain: string, taskId: string, { windowSeconds, movedBytes, redoneBytes }: CopyMeasure): void {
    if (windowSeconds !== undefined) this.#windows.observe({ domain }, windowSeconds)
    if (redoneBytes !== undefined) this.#redone.inc({ domain }, redoneBytes)
    if (movedBytes === undefined) return
    this.#moved.inc({ domain }, movedBytes)
    this.#checkpoints.set(taskId, { domain, at: performance.now() })
  }

  /** A copy has ended, however that was. */
  copyEnded (taskId: string): void {
    this.#checkpoints.delete(taskId)
  }

  /** A domain has answered a read, or has not in time. */
  domainRead (domain: string, took: { seconds: number, late: boolean }): void {
    this.#reads.observe({ domain }, took.seconds)
    if (took.late) this.#hangs.inc({ domain })
  }

  /** The gluster command has run. */
  glusterCall (took: number): void {
    this.#glusterCalls.observe(took)
  }
}
