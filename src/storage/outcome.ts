import { Type, type Static } from '@sinclair/typebox'
import { Strict, Words } from '../api/schema.ts'
import { catalogue, type ErrorCode } from '../errors.ts'
import { explain } from './failure.ts'

const Plain = Type.Union([Type.String(), Type.Number(), Type.Boolean()])

/** An error as it crosses a process border. What it adds to the problem is flat, and takes no other member's place. */
export const Failure = Strict({
  code: Words(Object.keys(catalogue) as ErrorCode[]),
  detail: Type.String(),
  members: Type.Record(Type.String({ pattern: '^(?!(type|title|status|code|detail|task|retryAfter|__proto__)$)' }), Type.Union([Plain, Type.Array(Plain), Type.Record(Type.String(), Plain)]), { additionalProperties: false }),
  changed: Type.Boolean()
})
type Failure = Static<typeof Failure>

/**
 * A result or an error as it crosses a process border. Errors thrown across it would lose their code or message on
 * the way, so they are sent as data.
 */
export type Outcome<T> =
  | { ok: T }
  | { error: Omit<Failure, 'members'> & { members: Readonly<Record<string, unknown>> } }

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
