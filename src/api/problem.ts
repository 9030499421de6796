import { Type, type Static } from '@sinclair/typebox'

/** An error as RFC 9457 has it, with our stable `code`. Some codes add members of their own. */
export const Problem = Type.Object({
  type: Type.String({ description: 'A URN that ends in the code.' }),
  title: Type.String({ description: 'What the code means, the same for every occurrence.' }),
  status: Type.Integer({ minimum: 400, maximum: 599, description: 'The HTTP status.' }),
  code: Type.String({ description: 'Stable and meant for programs: decide by this.' }),
  detail: Type.String({ description: 'What happened, to which object, and what to do next. For people.' })
}, { $id: 'Problem', description: 'An error as RFC 9457 has it (application/problem+json), with a stable `code`.' })

export type Problem = Static<typeof Problem> & Record<string, unknown>
