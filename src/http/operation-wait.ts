import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyRequest } from 'fastify'
import type { Operation, OperationList } from '../api/operation.ts'
import { operationStates } from '../api/operation.ts'
import { AppError } from '../errors.ts'
import type { Standing } from './standing.ts'

/** What a list of operations is narrowed by. */
export interface OperationFilter {
  volume?: string[] | undefined
  state?: string[] | undefined
  taskId?: string[] | undefined
}

/** Looks at Gluster are two seconds old at most: who waits looks as often, together with everybody else. */
const lookEveryMs = 2000

/** Those of the operations that pass. `taskId` is that of the task that started one, or claimed it last. */
export function narrow (list: OperationList, filter: OperationFilter): OperationList {
  const [volumes, taskIds] = [split(filter.volume), split(filter.taskId)]
  const states = split(filter.state)?.map(checkState)
  const passes = ({ volume, state, task, claimedBy }: Operation): boolean =>
    (volumes?.includes(volume) ?? true) && (states?.includes(state) ?? true) &&
    (taskIds === undefined || [task, claimedBy].some(by => by !== undefined && taskIds.includes(by.taskId)))
  const { items, ended, unknown, ...rest } = list
  const over = ended?.filter(passes)
  const hidden = unknown?.filter(({ volume }) => volumes?.includes(volume) ?? true)
  return {
    ...rest,
    items: items.filter(passes),
    ...(over !== undefined && over.length > 0 && { ended: over }),
    ...(hidden !== undefined && hidden.length > 0 && { unknown: hidden })
  }
}

/** Whether something is still to be waited for: it runs, or nobody can tell that it does not. */
export function goesOn ({ items, unknown = [], problem }: Pick<OperationList, 'items' | 'unknown' | 'problem'>): boolean {
  return problem !== undefined || unknown.length > 0 ||
    items.some(({ state, problem }) => state === 'running' || state === 'not-started' || problem !== undefined)
}

/** Asks again and again while `unfinished`, but no longer than `waitMs`, and than the asker is there and may ask. */
export async function askUntil<T> (ask: () => Promise<T>, unfinished: (answer: T) => boolean, waitMs: number, request: FastifyRequest, standing?: Pick<Standing, 'during'>): Promise<T> {
  const end = performance.now() + waitMs
  const gone = new AbortController()
  const leave = () => { gone.abort() }
  request.raw.socket.once('close', leave)
  let answer = await ask()
  const wait = async (lost?: AbortSignal): Promise<void> => {
    const over = AbortSignal.any([gone.signal, ...lost === undefined ? [] : [lost]])
    while (unfinished(answer) && performance.now() < end && !over.aborted) {
      await sleep(Math.min(lookEveryMs, end - performance.now()), undefined, { signal: over }).catch(() => { /* the loop ends */ })
      if (!over.aborted) answer = await ask()
    }
  }
  try {
    await (standing === undefined ? wait() : standing.during(request, wait))
    return answer
  } finally {
    request.raw.socket.off('close', leave)
  }
}

function split (lists: readonly string[] | undefined): string[] | undefined {
  return lists?.flatMap(list => list.split(','))
}

function checkState (word: string): string {
  if (operationStates.some(state => state === word)) return word
  throw new AppError('bad-request', `querystring.state: "${word}" is no state of an operation. There are ${operationStates.join(', ')}.`)
}
