import { readdirSync, readFileSync } from 'node:fs'

/** A process that is to do something and does nothing. */
export interface Standstill {
  pid: number
  name: string
  /** `stopped` by SIGSTOP or the like, `hung`: it waits for something that does not come. */
  state: 'stopped' | 'hung'
  /** When it was first seen so. */
  since: string
}

/** A process to be looked at, with those it has started. */
export interface Watched {
  pid: number
  /** What to call it; the name of its program unless given. */
  name?: string
  /** It rests on purpose between two pieces of work: only who waits in the kernel hangs. */
  paced?: boolean
}

interface Look {
  /** Counts what its threads have done. */
  activity: string
  isStopped: boolean
  /** A thread waits where it cannot even be interrupted. */
  isBlocked: boolean
}

interface Seen extends Look {
  /** When it was first seen with this activity. */
  at: number
  since: string
}

/** A single request to a slow disk may take seconds. */
const hungMs = 15_000

/**
 * Finds processes that stand still, by looking at them again and again. It reads of /proc only what the kernel answers at
 * once, whatever the process waits for: not its command line, for one.
 */
export class StandstillWatch {
  #seen = new Map<number, Seen>()
  readonly #hungMs: number

  constructor (hungAfterMs = hungMs) {
    this.#hungMs = hungAfterMs
  }

  /** Looks once. Who is stopped is told at the second look: a debugger stops a program for an instant. */
  look (processes: readonly Watched[]): Standstill[] {
    const seen = new Map<number, Seen>()
    const found = processes.flatMap(({ pid, name, paced = false }) => withChildren(pid).flatMap(process => {
      const look = lookAt(process)
      if (look === undefined) return []
      const before = this.#seen.get(process)
      const isSame = before?.activity === look.activity && before.isStopped === look.isStopped
      const now = isSame ? { ...look, at: before.at, since: before.since } : { ...look, at: performance.now(), since: new Date().toISOString() }
      seen.set(process, now)
      const state = this.#judge(now, isSame, paced)
      return state === undefined ? [] : [{ pid: process, name: (process === pid ? name : undefined) ?? nameOf(process), state, since: now.since }]
    }))
    this.#seen = seen
    return found
  }

  #judge ({ isStopped, isBlocked, at }: Seen, isSame: boolean, paced: boolean): Standstill['state'] | undefined {
    if (!isSame) return undefined
    if (isStopped) return 'stopped'
    return (isBlocked || !paced) && performance.now() - at >= this.#hungMs ? 'hung' : undefined
  }
}

function lookAt (pid: number): Look | undefined {
  return ifThere(() => {
    let switches = 0
    let ticks = 0
    let isStopped = false
    let isBlocked = false
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'latin1')
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1')
      // the name may contain anything, also brackets
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
      isStopped ||= fields[0] === 'T'
      isBlocked ||= fields[0] === 'D'
      ticks += Number(fields[11]) + Number(fields[12])
      for (const [, count] of status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s*(\d+)$/gm)) switches += Number(count)
    }
    return { activity: `${switches} ${ticks}`, isStopped, isBlocked }
  })
}

/** A program may have been started by another one: bubblewrap stays its parent. */
function withChildren (pid: number): number[] {
  const children = ifThere(() => readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1')) ?? ''
  return [pid, ...children.split(' ').filter(child => child !== '').flatMap(child => withChildren(Number(child)))]
}

function nameOf (pid: number): string {
  return ifThere(() => readFileSync(`/proc/${pid}/comm`, 'utf8').trimEnd()) ?? 'unknown'
}

/** What is gone by now stands still no longer. */
function ifThere<T> (look: () => T): T | undefined {
  try {
    return look()
  } catch {
    return undefined
  }
}
