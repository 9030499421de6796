import { escapeUnprintable } from '../unprintable.ts'
import type { Problem } from './types.ts'

/**
 * The agent refused, or failed: decide by `code`, which is stable. `foreign-answer` says that something else answered. In
 * title and detail, what a terminal would obey is escaped, whoever wrote it.
 */
export class ProblemError extends Error {
  readonly status: number
  readonly code: string
  readonly problem: Problem

  constructor (problem: Problem) {
    const [title, detail] = [escapeUnprintable(problem.title), escapeUnprintable(problem.detail)]
    super(detail)
    this.name = 'ProblemError'
    this.status = problem.status
    this.code = problem.code
    this.problem = { ...problem, title, detail }
  }
}

/** The agent could not be reached for as long as the client tries. Whether it got the request is not known. */
export class UnreachableError extends Error {
  constructor (url: string, cause: unknown) {
    super(`The agent at ${url} cannot be reached: ${escapeUnprintable(wordsOf(cause))}`, { cause })
    this.name = 'UnreachableError'
  }
}

/** Node's error for a name with several addresses that all refuse has a code and members, but an empty message. */
function wordsOf (cause: unknown): string {
  if (cause instanceof AggregateError && cause.message === '') return cause.errors.map(wordsOf).join(', ')
  return cause instanceof Error ? cause.message : String(cause)
}
