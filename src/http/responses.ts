import type { TSchema } from '@sinclair/typebox'
import { Problem } from '../api/problem.ts'
import { Ref } from '../api/schema.ts'

/** A response with a JSON body, for the schema of a route. */
export function json<T extends TSchema> (description: string, schema: T) {
  return { description, content: { 'application/json': { schema } } }
}

/** Responses with a problem, by status. */
export function problems (descriptions: Readonly<Record<number, string>>) {
  return Object.fromEntries(Object.entries({
    401: 'The agent wants to know who asks, or does not accept the token or certificate.',
    403: 'The caller may not do this, or the Host or Origin header is not allowed.',
    429: 'The caller sends too many requests.',
    503: 'The agent has more to do than it can.',
    ...descriptions
  }).map(([status, description]) =>
    [status, { description, content: { 'application/problem+json': { schema: Ref(Problem) } } }]))
}
