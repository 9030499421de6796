import { AppError } from '../errors.ts'

/** What an ETag of a task says: which run, and how far it was. */
export interface TagParts {
  instance: string
  runId: string
  revision: number
  tick: number
}

/** A parsed If-Match or If-None-Match: anything, or the opaque strong tags that were listed. Weak tags never match. */
export type TagCondition = '*' | readonly string[]

/** The strong entity tag of a task, quotes included. */
export function etagOf ({ instance, runId, revision, tick }: TagParts): string {
  return `"${instance}.${runId}.${revision}.${tick}"`
}

/** The parts of a strong tag that this product made; undefined for any other. */
export function parseTag (tag: string): TagParts | undefined {
  const match = /^"([^".]+)\.([^".]+)\.(\d{1,15})\.(\d{1,15})"$/.exec(tag)
  if (match === null) return undefined
  const [, instance = '', runId = '', revision, tick] = match
  return { instance, runId, revision: Number(revision), tick: Number(tick) }
}

const entityTag = /^(W\/)?"[\x21\x23-\x7e\x80-\xff]*"$/

/**
 * Parses a precondition header as RFC 9110 (8.8.3, 13.1) has it. Throws `precondition-malformed` with the line that
 * would have worked, because an unquoted tag is what nearly everybody sends first.
 */
export function parseCondition (header: string, value: string | undefined): TagCondition | undefined {
  if (value === undefined) return undefined
  if (value.trim() === '*') return '*'
  // a list may have empty elements (RFC 9110, 5.6.1), and a tag of ours holds no comma
  const members = value.split(',').map(member => member.trim()).filter(member => member !== '')
  if (members.length === 0 || !members.every(member => entityTag.test(member))) {
    const example = value.replaceAll(/["'\s\\]/g, '').replace(/^W\//, '') || '<ETag of the task>'
    throw new AppError('precondition-malformed', `${header} wants quoted entity tags or *. With curl: -H '${header}: "${example}"'`)
  }
  return members.filter(member => !member.startsWith('W/'))
}

/** Whether one of the tags names this run at this revision; how far its progress was told does not matter. */
export function namesRevision (condition: TagCondition, of: TagParts): boolean {
  return condition === '*' || condition.some(tag => {
    const parts = parseTag(tag)
    return parts !== undefined && parts.instance === of.instance && parts.runId === of.runId && parts.revision === of.revision
  })
}

/** Whether one of the tags names this run, at whatever revision. */
export function namesRun (condition: TagCondition, of: TagParts): boolean {
  return condition === '*' || condition.some(tag => {
    const parts = parseTag(tag)
    return parts !== undefined && parts.instance === of.instance && parts.runId === of.runId
  })
}

/** Whether one of the tags is exactly this one. */
export function namesExactly (condition: TagCondition, of: TagParts): boolean {
  return condition === '*' || condition.includes(etagOf(of))
}
