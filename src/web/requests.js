// Everything the page asks the agent and tells it, but for the stream.

import { inThePage } from './words.js'

/** Nobody waits longer for a page; a storage that hangs is answered by the agent within 5 s. */
const timeoutMs = 10_000
/** A task is accepted or refused in that time at the latest; the reply tells which. */
const acceptSeconds = 10

let aheadMs

/** By how much the clock of this machine is ahead of the agent's; undefined while the agent has not said anything. */
export function clockAheadMs () { return aheadMs }

/** What the agent refused, in its own words. */
export class Refusal extends Error {
  constructor (problem) {
    super(`${problem.title}. ${inThePage(problem.detail ?? '')}`.trim())
    this.code = problem.code
    this.status = problem.status
  }
}

/** Reads. Throws Refusal when the agent answers with a problem, and something else when it does not answer. */
export async function read (path) {
  return await answerOf(await fetch(path, { signal: within(timeoutMs) }))
}

/** Sends a task under an id of its own, or the one given. Throws Refusal. */
export async function sendTask (spec, id = freshId(spec)) {
  return await answerOf(await fetch(`tasks/${encodeURIComponent(id)}`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json', prefer: `wait=${acceptSeconds}` },
    body: JSON.stringify(spec),
    signal: within(acceptSeconds * 1000 + timeoutMs)
  }))
}

/** Cancels this run of a task, and no later one that has its id. Throws Refusal. */
export async function cancelTask ({ id, runId }) {
  return await answerOf(await fetch(`tasks/${encodeURIComponent(id)}?runId=${runId}`, { method: 'DELETE', signal: within(timeoutMs) }))
}

/** Not `AbortSignal.timeout`: the clock that a test of the page sets does not move that one. */
function within (ms) {
  const controller = new AbortController()
  setTimeout(() => { controller.abort(new Error(`The agent has not answered for ${ms / 1000} s. What it was told to do may still happen: look before you try again.`)) }, ms)
  return controller.signal
}

async function answerOf (response) {
  const date = Date.parse(response.headers.get('date'))
  if (!Number.isNaN(date)) aheadMs = Date.now() - date
  const body = await response.json()
  if (!response.ok) throw new Refusal(body)
  return body
}

function freshId ({ kind }) {
  // not randomUUID, which browsers have on secure origins only
  const random = [...crypto.getRandomValues(new Uint8Array(4))].map(byte => byte.toString(16).padStart(2, '0')).join('')
  return `${kind.slice(kind.indexOf('.') + 1)}-${random}`
}
