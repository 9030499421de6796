import { ProblemError } from '../client/errors.ts'
import { exit } from './exit.ts'
import { inCommands } from './glossary.ts'
import type { Session } from './session.ts'

/** What was found, and the domains of which nothing is known: an empty list must not pass for "nothing is broken". */
export interface Found<T> {
  items: T[]
  unknown?: Array<{ domain: string, code: string, detail: string }>
}

/**
 * Reads something of one domain, or of all that the agent has. When all are asked, one that cannot be read does not keep
 * the others back: it is named, and the command fails.
 */
export async function readDomains<T> (session: Session, only: string | undefined, read: (domain: string) => Promise<T[]>): Promise<Found<T>> {
  if (only !== undefined) return { items: await read(only) }
  const found = await Promise.all((await session.client.domains()).map(async ({ domain, state, detail = '' }) => {
    try {
      if (state !== 'available') return { domain, code: `domain-${state}`, detail }
      return await read(domain)
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      return { domain, code: error.code, detail: error.message }
    }
  }))
  const unknown = found.filter(one => 'domain' in one)
  for (const { domain, detail } of unknown) session.say(`${domain} was not looked into: ${inCommands(detail)}`)
  if (unknown.length > 0) session.status = exit.failed
  return { items: found.flatMap(one => 'domain' in one ? [] : one), ...(unknown.length > 0 && { unknown }) }
}
