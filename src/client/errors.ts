import type { Problem } from './types.ts'

/** The agent refused, or failed: decide by `code`, which is stable. */
export class ProblemError extends Error {
  readonly status: number
  readonly code: string
  readonly problem: Problem

  constructor (problem: Problem) {
    super(problem.detail)
    this.name = 'ProblemError'
    this.status = problem.status
    this.code = problem.code
    this.problem = problem
  }
}

/** The agent could not be reached for as long as the client tries. Whether it got the request is not known. */
export class UnreachableError extends Error {
  constructor (url: string, cause: unknown) {
    super(`The agent at ${url} cannot be reached: ${wordsOf(cause)}`, { cause })
    this.name = 'UnreachableError'
  }
}

/** Node's error for a name with several addresses that all refuse has a code and members, but an empty message. */
function wordsOf (cause: unknown): string {
  if (cause instanceof AggregateError && cause.message === '') return cause.errors.map(wordsOf).join(', ')
  return cause instanceof Error ? cause.message : String(cause)
}
