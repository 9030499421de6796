import { AppError, isErrorCode } from '../errors.ts'
import { explain } from './failure.ts'

/**
 * A result or an error as it crosses a process border. Errors thrown across it would lose their code or message on
 * the way, so they are sent as data.
 */
export type Outcome<T> =
  | { ok: T }
  | { error: { code: string, detail: string, members: Readonly<Record<string, unknown>>, changed: boolean } }

/** Runs `work` and packs up how it went. `unexpected` is told of errors that nobody foresaw, for the log. */
export async function outcomeOf<T> (what: string, work: () => Promise<T>, unexpected: (error: unknown) => void): Promise<Outcome<T>> {
  try {
    return { ok: await work() }
  } catch (cause) {
    const error = explain(cause, what)
    if (error.code === 'internal') unexpected(cause)
    return { error: { code: error.code, detail: error.message, members: error.members, changed: error.changed } }
  }
}

/** Unpacks an outcome: the result, or the error thrown. */
export function resultOf<T> (outcome: Outcome<T>): T {
  if ('ok' in outcome) return outcome.ok
  const { code, detail, members, changed } = outcome.error
  throw new AppError(isErrorCode(code) ? code : 'internal', detail, { members, changed })
}
