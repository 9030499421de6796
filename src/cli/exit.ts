import { CommanderError } from 'commander'
import { ProblemError, UnreachableError } from '../client/errors.ts'
import type { Problem } from '../client/types.ts'
import { inCommands } from './glossary.ts'

/** The exit statuses, and what they mean to a script. */
export const exit = { done: 0, failed: 1, usage: 2, unreachable: 3, conflict: 4, interrupted: 130 } as const
export type ExitStatus = (typeof exit)[keyof typeof exit]

/** For `--help`. */
export const exitStatuses = `Exit status:
  0    done
  1    failed, or canceled by somebody else
  2    the command line is wrong
  3    the agent cannot be reached
  4    conflict: the image, volume or id is in use, or a precondition does not hold (409, 412)
  130  interrupted with Ctrl-C`

/** The command line is wrong in a way that only its meaning shows. */
export class UsageError extends Error {
  constructor (message: string) {
    super(message)
    this.name = 'UsageError'
  }
}

export function statusOfProblem ({ status }: Pick<Problem, 'status'>): ExitStatus {
  if (status === 409 || status === 412) return exit.conflict
  // what the agent calls malformed was given on the command line
  return status === 400 ? exit.usage : exit.failed
}

/** What went wrong, for the shell, for people, and for programs. */
export interface Failure {
  status: ExitStatus
  /** Nothing when it has been said already. */
  message?: string
  problem?: object
}

/** Explains an error, in one line. */
export function explain (error: unknown): Failure {
  if (error instanceof ProblemError) return { status: statusOfProblem(error), message: inCommands(error.message), problem: error.problem }
  if (error instanceof UnreachableError) {
    const { message } = error
    return { status: exit.unreachable, message, problem: ownProblem('unreachable', 'The agent cannot be reached', message) }
  }
  if (error instanceof UsageError) return { status: exit.usage, message: error.message, problem: ownProblem('usage', usageTitle, error.message) }
  if (error instanceof CommanderError) {
    // it has printed its message, or the help that was asked for
    if (error.exitCode === 0) return { status: exit.done }
    return { status: exit.usage, problem: ownProblem('usage', usageTitle, error.code === 'commander.help' ? 'Give a command; --help lists them.' : error.message.replace(/^error: /, '')) }
  }
  // a bug, or a server that answers in JSON and is no agent
  const { name = 'Error', message = String(error) } = error instanceof Error ? error : {}
  const detail = `The command failed in a way that was not foreseen. Is that an agent that answers? ${name}: ${message}`
  return { status: exit.failed, message: detail, problem: ownProblem('unexpected', 'The command failed unexpectedly', detail) }
}

const usageTitle = 'The command line is wrong'

/** What went wrong on this side, in the form of the agent's problems. */
function ownProblem (code: string, title: string, detail: string): object {
  return { type: `urn:vdsm-tasks:problem:${code}`, title, code, detail }
}
