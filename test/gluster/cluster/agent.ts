import type { Test } from 'tap'
import type { Operation, OperationList, GlusterVolumeList } from '../../../src/api/operation.ts'
import type { Problem } from '../../../src/api/problem.ts'
import { startAgent, type AgentOptions, type AgentProcess } from '../../helpers/agent.ts'
import { Subscriber } from '../../helpers/subscriber.ts'

/** The built agent on one host of the cluster, as a caller sees it. */
export interface Agent {
  http: AgentProcess
  /** Sends a command and waits for its end. */
  run (taskId: string, spec: object, options?: { reused?: boolean }): Promise<Reply>
  list (): Promise<OperationList>
  volumes (): Promise<GlusterVolumeList>
  /** What its event stream told of operations, in order. */
  events: Array<{ event: string, operation: Operation }>
}

/** How a command went: what came of it, or what stood against it, and whether anything may have been changed. */
export interface Reply {
  result?: Record<string, unknown>
  error?: Problem & { changed: boolean }
}

/** Starts the built agent on a host, by the program that puts it there, and listens to its events. */
export async function startClusterAgent (t: Test, options: AgentOptions): Promise<Agent> {
  const http = await startAgent(t, { gluster: { pollSeconds: 2 }, ...options })
  const events: Agent['events'] = []
  const stream = new Subscriber({ socketPath: http.socketPath }, '/events?type=operation&type=operationProgress')
  stream.onFrame(({ event, data }) => {
    if (event === 'operation' || event === 'operationProgress') events.push({ event, operation: data as Operation })
  })
  await stream.event('synced')

  const read = async <T>(path: string): Promise<T> => {
    const { status, body } = await http.request<T & Partial<Problem>>('GET', path)
    if (status !== 200) throw new Error(`${body.code}: ${body.detail}`)
    return body
  }
  return {
    http,
    events,
    async run (taskId, spec, { reused = false } = {}) {
      const { status, body } = await http.request<Problem>('PUT', `/tasks/${taskId}`, { body: spec, headers: { prefer: 'wait=60', ...(reused && { 'if-match': '*' }) } })
      if (status >= 400) return { error: { ...body, changed: false } }
      const { state, result, error } = await http.finished(taskId)
      if (error !== undefined) return { error: { ...error, changed: state !== 'rejected' } }
      return { result: result as Record<string, unknown> }
    },
    list: async () => await read('/gluster/operations'),
    volumes: async () => await read('/gluster/volumes')
  }
}
