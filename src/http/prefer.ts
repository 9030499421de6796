/**
 * What a Prefer header (RFC 7240) asks for, of what we know. Unknown and malformed preferences are ignored, as the RFC
 * wants. With both, `wait` says how long, and only then is the answer asynchronous (4.3 there).
 */
export interface Preferences {
  waitSeconds: number | undefined
  respondAsync: boolean
}

/** Longer waits are cut to this; proxies in between seldom hold a silent request longer. */
export const maxWaitSeconds = 60

export function parsePrefer (header: string | readonly string[] | undefined): Preferences {
  // most requests come without
  if (header === undefined) return { waitSeconds: undefined, respondAsync: false }
  const preferences = [header].flat().join(',').split(',').map(preference => preference.split(';', 1)[0]?.trim().toLowerCase() ?? '')
  const wait = preferences.map(preference => /^wait\s*=\s*"?(\d+)"?$/.exec(preference)?.[1]).find(value => value !== undefined)
  return {
    waitSeconds: wait === undefined ? undefined : Math.min(Number(wait), maxWaitSeconds),
    respondAsync: preferences.includes('respond-async')
  }
}

/** The value of Preference-Applied, if any preference was. */
export function applied ({ waitSeconds, respondAsync }: Preferences): string | undefined {
  const preferences = [...(respondAsync ? ['respond-async'] : []), ...(waitSeconds === undefined ? [] : [`wait=${waitSeconds}`])]
  return preferences.length === 0 ? undefined : preferences.join(', ')
}
