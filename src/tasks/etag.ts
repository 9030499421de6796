import { AppError } from '../errors.ts'

/** What an ETag of a task says: which run, and how far it was. */
export interface TagParts {
  instance: string
  runId: string
  revision: number
  tick: number
}

/** A parsed If-Match or If-None-Match: anything, or the opaque tags that can match. */
export type TagCondition = '*' | readonly string[]

/** The strong entity tag of a task, quotes included. */
export function etagOf ({ instance, runId, revision, tick }: TagParts): string {
  return `"${instance}.${runId}.${revision}.${tick}"`
}

/** The parts of a strong tag that this product made; undefined for any other. */
export function parseTag (text: string): TagParts | undefined {
  const match = /^"([^".]+)\.([^".]+)\.(\d{1,15})\.(\d{1,15})"$/.exec(text)
  if (match === null) return undefined
  const [, instance = '', runId = '', revision, tick] = match
  return { instance, runId, revision: Number(revision), tick: Number(tick) }
}

const tag = '(?:W/)?"[\\x21\\x23-\\x7e\\x80-\\xff]*"'
// elements of a list may be empty (RFC 9110, 5.6.1)
const tagList = new RegExp(`^[\\s,]*${tag}(?:\\s*,[\\s,]*${tag})*[\\s,]*$`)

/**
 * Parses a precondition header as RFC 9110 (8.8.3, 13.1) has it. If-Match compares strongly: a weak tag never matches.
 * If-None-Match compares weakly, because a proxy that compresses weakens the tags, and a long poll through it must wait.
 * Throws `precondition-malformed` with the line that would have worked: an unquoted tag is what nearly everybody sends
 * first.
 */
export function parseCondition (header: 'If-Match' | 'If-None-Match', value: string | undefined): TagCondition | undefined {
  if (value === undefined) return undefined
  if (value.trim() === '*') return '*'
  if (!tagList.test(value)) {
    const words = value.replaceAll(/W\/|["'\s\\]/g, '').split(',').filter(word => word !== '')
    const example = (words.length === 0 ? ['<ETag of the task>'] : words).map(word => `"${word}"`).join(', ')
    throw new AppError('precondition-malformed', `${header} wants quoted entity tags or *. With curl: -H '${header}: ${example}'`)
  }
  const tags = value.match(new RegExp(tag, 'g')) ?? []
  return header === 'If-Match' ? tags.filter(member => !member.startsWith('W/')) : tags.map(member => member.replace(/^W\//, ''))
}

/** Whether one of the tags names this run at this revision; how far its progress was told does not matter. */
export function namesRevision (condition: TagCondition, of: TagParts): boolean {
  return condition === '*' || condition.some(member => {
    const parts = parseTag(member)
    return parts !== undefined && parts.instance === of.instance && parts.runId === of.runId && parts.revision === of.revision
  })
}

/** Whether one of the tags names this run, at whatever revision. */
export function namesRun (condition: TagCondition, of: TagParts): boolean {
  return condition === '*' || condition.some(member => {
    const parts = parseTag(member)
    return parts !== undefined && parts.instance === of.instance && parts.runId === of.runId
  })
}

/** Whether one of the tags is exactly this one. */
export function namesExactly (condition: TagCondition, of: TagParts): boolean {
  return condition === '*' || condition.includes(etagOf(of))
}
