import t from 'tap'
import type { Run } from '../../src/tasks/run.ts'
import { copyOf, startAgent } from '../helpers/http-agent.ts'
import { isProblem } from '../helpers/http-client.ts'
import { drive, existing, type Existing } from '../helpers/http-states.ts'

type Answer = 'created' | 'joined' | 'stored' | 'task-id-conflict' | 'precondition-failed' | 'instance-changed'

interface Precondition {
  name: string
  /** The headers, given the record that is there. */
  headers: (run: Run | undefined, instance: string) => Record<string, string>
  /** What the precondition alone makes of it; undefined where the table decides. */
  decides: (state: Existing) => Answer | undefined
}

const isActive = (state: Existing) => state === 'pending' || state === 'running' || state === 'canceling'
const isStored = (state: Existing) => state === 'succeeded' || state === 'failed' || state === 'canceled'
const isFinished = (state: Existing) => isStored(state) || state === 'rejected'

const tag = (run: Run | undefined, change: Partial<Record<'instance' | 'runId' | 'revision' | 'tick', string | number>> = {}) => {
  const { instance = 'feedfacecafe', runId = '0190', revision = 0, tick = 0 } = { ...run && { instance: run.instance, runId: run.runId, revision: run.revision, tick: run.tick }, ...change }
  return `"${instance}.${runId}.${revision}.${tick}"`
}

// reuse of an id: only of a finished run, and only of the one that is named; a rejected one is finished, too
const reuse = (state: Existing): Answer => isFinished(state) ? 'created' : 'precondition-failed'
const never = (): Answer => 'precondition-failed'
const table = () => undefined
const unlessItExists = (state: Existing) => isActive(state) || isStored(state) ? 'precondition-failed' : undefined
const ifMatch = (name: string, headers: (run: Run | undefined) => string, decides: Precondition['decides']): Precondition =>
  ({ name: `If-Match: ${name}`, headers: run => ({ 'if-match': headers(run) }), decides })

const preconditions: Precondition[] = [
  { name: 'no precondition', headers: () => ({}), decides: table },
  { name: 'If-None-Match: *', headers: () => ({ 'if-none-match': '*' }), decides: unlessItExists },
  { name: 'If-None-Match: its own tag', headers: run => ({ 'if-none-match': tag(run) }), decides: unlessItExists },
  { name: 'If-None-Match: another tag', headers: run => ({ 'if-none-match': tag(run, { runId: 'other' }) }), decides: table },
  ifMatch('its own tag', run => tag(run), reuse),
  ifMatch('its own tag at another tick', run => tag(run, { tick: 99 }), reuse),
  ifMatch('a list with its own tag', run => `"foreign", ${tag(run)}`, reuse),
  ifMatch('*', () => '*', reuse),
  ifMatch('another revision', run => tag(run, { revision: 99 }), never),
  ifMatch('another run', run => tag(run, { runId: 'other' }), never),
  ifMatch('another instance', run => tag(run, { instance: 'other' }), never),
  ifMatch('its own tag, weak', run => `W/${tag(run)}`, never),
  ifMatch('a foreign tag', () => '"foreign"', never),
  { name: 'this Agent-Instance', headers: (_, instance) => ({ 'agent-instance': instance }), decides: table },
  { name: 'another Agent-Instance', headers: () => ({ 'agent-instance': 'other' }), decides: () => 'instance-changed' },
  { name: 'this Agent-Instance and If-Match: *', headers: (_, instance) => ({ 'agent-instance': instance, 'if-match': '*' }), decides: reuse },
  { name: 'another Agent-Instance and If-Match: *', headers: () => ({ 'agent-instance': 'other', 'if-match': '*' }), decides: () => 'instance-changed' },
  { name: 'If-Match: * and If-None-Match: *', headers: () => ({ 'if-match': '*', 'if-none-match': '*' }), decides: state => unlessItExists(state) ?? reuse(state) }
]

/** The table of the contract. */
function decide (state: Existing, sameDigest: boolean): Answer {
  if (state === 'none' || state === 'rejected') return 'created'
  if (!sameDigest) return 'task-id-conflict'
  return isActive(state) ? 'joined' : 'stored'
}

for (const state of existing) {
  t.test(`a PUT where the record is ${state}: over both digests and all preconditions`, async t => {
    const agent = await startAgent(t, { queues: {}, maxActive: 1e6 })
    const { registry, bodies, client } = agent
    let n = 0
    for (const sameDigest of [true, false]) {
      for (const precondition of preconditions) {
        for (const dryRun of [false, true]) {
          const id = `t${++n}`
          const what = `${sameDigest ? 'same' : 'different'} digest, ${precondition.name}${dryRun ? ', dry run' : ''}`
          const spec = copyOf('s', id)
          const run = state === 'none' ? undefined : await drive(agent, id, spec, state)
          const before = run?.etag
          const started = () => bodies.all.filter(body => body.id === id).length
          const startedBefore = started()
          const answer = precondition.decides(state) ?? decide(state, sameDigest)

          const reply = await client.put(`/tasks/${id}${dryRun ? '?dryRun=true' : ''}`, sameDigest ? spec : copyOf('s', id, { bandwidth: 7 }), {
            prefer: 'respond-async', ...precondition.headers(run, registry.instance)
          })

          const isNew = answer === 'created' && !dryRun
          t.equal(started() - startedBefore, isNew ? 1 : 0, `${what}: ${isNew ? 'one' : 'no'} execution`)
          if (!isNew) {
            t.equal(registry.find(id), run, `${what}: the record is as it was`)
            t.equal(run?.etag, before)
          }
          if (answer === 'created' || answer === 'joined' || answer === 'stored') {
            if (dryRun) {
              t.equal(reply.status, 200, what)
              t.match(reply.json, { outcome: answer, ...answer !== 'created' && { task: { id, runId: run?.runId } } }, what)
              t.notOk(answer === 'created' && 'task' in reply.json)
              continue
            }
            const { headers, task } = reply
            t.equal(reply.status, answer === 'stored' ? 200 : 202, what)
            t.equal(headers['idempotent-replayed'], answer === 'created' ? undefined : 'true', `${what}: replayed`)
            t.equal(task.runId === run?.runId, answer !== 'created', `${what}: the run`)
            t.equal(task.replaces, answer === 'created' && 'if-match' in precondition.headers(run, '') ? before : undefined, `${what}: replaces`)
            t.match(headers, { etag: registry.find(id)?.etag, location: `/tasks/${id}`, 'preference-applied': 'respond-async', 'agent-instance': registry.instance })
            t.equal('retry-after' in headers, answer !== 'stored', `${what}: Retry-After while active`)
            t.same(task, JSON.parse(JSON.stringify(registry.find(id)?.wire())))
          } else {
            isProblem(t, reply, answer, what)
            t.equal(reply.headers.etag, before, `${what}: the tag of the record`)
            t.equal(reply.problem['task'] === undefined, run === undefined, `${what}: the record`)
            if (run !== undefined) t.match(reply.problem['task'], { id, runId: run.runId, state })
            t.notOk('idempotent-replayed' in reply.headers)
          }
        }
      }
    }
  })
}
