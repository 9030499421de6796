import { AppError } from '../errors.ts'

/** What a Prefer header (RFC 7240) asks for, of what we know. Unknown and malformed preferences are ignored, as the RFC wants. */
export interface Preferences {
  waitSeconds: number | undefined
  respondAsync: boolean
}

/** Longer waits are cut to this; proxies in between seldom hold a silent request longer. */
export const maxWaitSeconds = 60

export function parsePrefer (header: string | readonly string[] | undefined): Preferences {
  const preferences = [header ?? []].flat().join(',').split(',').map(preference => preference.split(';', 1)[0]?.trim().toLowerCase() ?? '')
  const wait = preferences.map(preference => /^wait\s*=\s*"?(\d{1,9})"?$/.exec(preference)?.[1]).find(value => value !== undefined)
  return {
    waitSeconds: wait === undefined ? undefined : Math.min(Number(wait), maxWaitSeconds),
    respondAsync: preferences.includes('respond-async')
  }
}

/** The value of Preference-Applied, if any preference was. */
export function applied ({ waitSeconds, respondAsync }: Preferences): string | undefined {
  if (respondAsync) return 'respond-async'
  return waitSeconds === undefined ? undefined : `wait=${waitSeconds}`
}

/** Whole header values that callers may send once. */
export function single (name: string, value: string | readonly string[] | undefined): string | undefined {
  if (value === undefined || typeof value === 'string') return value
  throw new AppError('bad-request', `The header ${name} was sent more than once.`)
}
