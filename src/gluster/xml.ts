import { XMLParser, XMLValidator } from 'fast-xml-parser'

/** An element of Gluster's XML. Its members are read with the functions below, which refuse whatever is not as expected. */
export interface Element {
  readonly name: string
  readonly members: Readonly<Record<string, unknown>>
}

/** The output is not what the reader knows: nothing may be concluded from it. */
export class UnexpectedOutput extends Error {
  readonly excerpt: string

  constructor (what: string, output: string, cause?: unknown) {
    super(what, { cause })
    this.name = 'UnexpectedOutput'
    this.excerpt = excerptOf(output)
  }
}

const excerptLength = 300

// Numbers stay text until somebody asks for one: the parser would turn "1e3" or a 20-digit size into a wrong one.
const parser = new XMLParser({ ignoreAttributes: true, parseTagValue: false, trimValues: true })

/**
 * Parses what `gluster --xml` printed and returns its `cliOutput` element.
 *
 * Throws UnexpectedOutput for plain text (glusterd being down is told that way), for half a document and for more
 * than one. The validator stops reading behind the first element, hence the look at the end of the text.
 */
export function parseXml (output: string): Element {
  const text = output.trim()
  const valid = XMLValidator.validate(text)
  if (valid !== true || !/<\/cliOutput\s*>$/.test(text)) throw new UnexpectedOutput('it is no complete XML document', output)
  let document: unknown
  try {
    document = parser.parse(text)
  } catch (error) {
    throw new UnexpectedOutput('it is no valid XML', output, error)
  }
  const members = isRecord(document) ? document['cliOutput'] : undefined
  if (!isRecord(members)) throw new UnexpectedOutput('it has no single element cliOutput', output)
  return { name: 'cliOutput', members }
}

/** The one element of this name; none or several are unexpected, unless they are the same (GlusterFS 11.1 repeats some). */
export function only (parent: Element, name: string): Element {
  const [first, ...others] = all(parent, name)
  const found = [first, ...others.filter(other => JSON.stringify(other) !== JSON.stringify(first))]
  if (first === undefined || found.length > 1) throw unexpected(parent, `${first === undefined ? 'no element' : 'several elements'} ${name} instead of one`)
  return first
}

/** Whether there is an element of this name. */
export function has (parent: Element, name: string): boolean {
  return Object.hasOwn(parent.members, name)
}

/** Every element of this name, in order. */
export function all (parent: Element, name: string): Element[] {
  return values(parent, name).map(value => ({ name, members: membersOf(parent, name, value) }))
}

/** The elements at the end of a path, of each of the elements on its way. */
export function under (parent: Element, ...path: string[]): Element[] {
  return path.reduce<Element[]>((elements, name) => elements.flatMap(element => all(element, name)), [parent])
}

/** The text of the one element of this name. An element may be there and be empty. */
export function text (parent: Element, name: string): string {
  const found = [...new Set(texts(parent, name))]
  const [first] = found
  if (first === undefined || found.length > 1) throw unexpected(parent, `${first === undefined ? 'no element' : 'several elements'} ${name} instead of one`)
  return first
}

/** The texts of every element of this name, in order. */
export function texts (parent: Element, name: string): string[] {
  return values(parent, name).map(value => {
    if (typeof value !== 'string') throw unexpected(parent, `a ${name} that is not just text`)
    return value
  })
}

/** A count or a size: digits only, and exact as a JavaScript number. */
export function count (parent: Element, name: string): number {
  const value = text(parent, name)
  const number = Number(value)
  if (!/^\d+$/.test(value) || !Number.isSafeInteger(number)) throw unexpected(parent, `${name} "${value}" is not a count`)
  return number
}

/** Seconds with a fraction, as run times are printed. */
export function seconds (parent: Element, name: string): number {
  const value = text(parent, name)
  if (!/^\d{1,12}(\.\d{1,9})?$/.test(value)) throw unexpected(parent, `${name} "${value}" is not a number of seconds`)
  return Number(value)
}

/** An id as Gluster gives them to operations, hosts and volumes. */
export function uuid (parent: Element, name: string): string {
  const value = text(parent, name)
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) throw unexpected(parent, `${name} "${value}" is not an id`)
  return value.toLowerCase()
}

/** A complaint about one element, with its content as the excerpt. */
export function unexpected (element: Element, what: string): UnexpectedOutput {
  return new UnexpectedOutput(`in ${element.name}: ${what}`, JSON.stringify(element.members))
}

function values (parent: Element, name: string): unknown[] {
  const value = Object.hasOwn(parent.members, name) ? parent.members[name] : []
  return Array.isArray(value) ? value : [value]
}

function membersOf (parent: Element, name: string, value: unknown): Record<string, unknown> {
  if (isRecord(value)) return value
  if (value === '') return {}
  throw unexpected(parent, `${name} has text instead of elements`)
}

function isRecord (value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function excerptOf (output: string): string {
  // what steers a terminal is to be found
  // eslint-disable-next-line no-control-regex
  const readable = output.replace(/[\s\x00-\x1f\x7f]+/g, ' ').trim()
  return readable.length > excerptLength ? `${readable.slice(0, excerptLength)}...` : readable
}
