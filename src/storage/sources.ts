import type { BrokenImage, Fix, ImageStatus } from '../api/image.ts'
import type { Domain } from './attached-domain.ts'
import { keyOf, type Named } from './record.ts'

/** Finds the domains that sources are in: any that this host has. */
export type FindDomain = (id: string) => Pick<Domain, 'sourceStates'> | undefined

/** The domain of the unfinished copies. */
type Target = Pick<Domain, 'neededSources'>

/** Why the copy of an image or volume cannot be continued, if its source is the reason. */
type ReasonOf = (named: Named) => string | undefined

/** Does not offer to continue copies whose source has changed or is gone, and says why. */
export async function judgeBroken (broken: readonly BrokenImage[], target: Target, findDomain: FindDomain): Promise<BrokenImage[]> {
  const reasonOf = await readReasons(broken.flatMap(({ fixes }) => fixes), target, findDomain)
  return broken.map(one => withoutHopeless(one, reasonOf))
}

/** The same for everything that is told of an image. */
export async function judgeStatus (status: ImageStatus, target: Target, findDomain: FindDomain): Promise<ImageStatus> {
  const { volumes } = status
  const reasonOf = await readReasons([status, ...volumes ?? []].flatMap(({ fixes }) => fixes), target, findDomain)
  return withoutHopeless({ ...status, ...(volumes !== undefined && { volumes: volumes.map(volume => withoutHopeless(volume, reasonOf)) }) }, reasonOf)
}

/** Of a source in a domain that is not there at this moment, or does not answer, nothing is said: it may be as it was. */
async function readReasons (fixes: readonly Fix[], target: Target, findDomain: FindDomain): Promise<ReasonOf> {
  const copies = fixes.flatMap(({ task }) => task.kind === 'storage.mendImage' ? task : [])
  if (copies.length === 0) return () => undefined
  const sources = await target.neededSources(copies)
  const needed = copies.flatMap((copy, index) => {
    const source = sources[index]
    return source === undefined || source === null ? [] : [{ key: keyOf(copy), ...source }]
  })
  const reasons = new Map<string, string>()
  await Promise.all([...new Set(needed.map(({ domain }) => domain))].map(async domain => {
    const here = needed.filter(source => source.domain === domain)
    const states = await findDomain(domain)?.sourceStates(here.map(({ files }) => files)).catch(() => undefined)
    for (const [index, { key }] of here.entries()) {
      const { state, what } = states?.[index] ?? { state: 'same' }
      if (state === 'gone') reasons.set(key, `its source is gone (${what} in domain ${domain})`)
      if (state === 'changed') reasons.set(key, `its source in domain ${domain} has changed since it began (${what})`)
    }
  }))
  return named => reasons.get(keyOf(named))
}

function withoutHopeless<T extends { detail?: string, fixes: Fix[] }> (judged: T, reasonOf: ReasonOf): T {
  const reasons = judged.fixes.flatMap(({ task }) => task.kind === 'storage.mendImage' ? reasonOf(task) ?? [] : [])
  if (reasons.length === 0) return judged
  return {
    ...judged,
    detail: [judged.detail, ...reasons.map(reason => `The copy cannot be continued: ${reason}.`)].filter(words => words !== undefined).join(' '),
    fixes: judged.fixes.filter(({ task }) => task.kind !== 'storage.mendImage' || reasonOf(task) === undefined)
  }
}
