import type { TSchema } from '@sinclair/typebox'
import { Problem } from '../api/problem.ts'
import { Ref } from '../api/schema.ts'

/** A response with a JSON body, for the schema of a route. */
export function json<T extends TSchema> (description: string, schema: T) {
  return { description, content: { 'application/json': { schema } } }
}

/** Responses with a problem, by status. */
export function problems (descriptions: Readonly<Record<number, string>>) {
  return Object.fromEntries(Object.entries({ 403: 'The Host or Origin header is not allowed.', ...descriptions }).map(([status, description]) =>
    [status, { description, content: { 'application/problem+json': { schema: Ref(Problem) } } }]))
}
