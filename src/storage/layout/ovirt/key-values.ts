import { AppError } from '../../../errors.ts'

/** Puts what is wrong with a metadata file into words that name the file. */
export type Refuse = (what: string, cause?: unknown) => AppError

/** The refusal of a metadata file: `metadata-invalid`, and nothing is changed. */
export function refusalOf (file: string): Refuse {
  return (what, cause) => new AppError('metadata-invalid', `The metadata file ${file} cannot be used: ${what}. Nothing was changed.`, { cause })
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Splits a metadata file of oVirt into its keys: lines of `KEY=value`, in UTF-8. Spaces around either are not part of them.
 * What follows a line `EOF` is padding. Throws for a line that is none of these, and for a key that stands there twice.
 */
export function parseKeyValues (bytes: Uint8Array, refuse: Refuse): Map<string, string> {
  const values = new Map<string, string>()
  for (const [index, line] of linesOf(bytes, refuse).entries()) {
    if (line.trim() === 'EOF') break
    if (line.trim() === '') continue
    const at = line.indexOf('=')
    if (at <= 0) throw refuse(`its line ${index + 1} is not KEY=value`)
    const key = line.slice(0, at).trim()
    if (values.has(key)) throw refuse(`the key ${JSON.stringify(key.slice(0, 80))} stands there twice`)
    values.set(key, line.slice(at + 1).trim())
  }
  return values
}

/** The lines of a file, without their ends, up to `EOF`. */
export function linesOf (bytes: Uint8Array, refuse: Refuse): string[] {
  const lines: string[] = []
  for (let start = 0; start < bytes.length;) {
    const found = bytes.indexOf(0x0a, start)
    const end = found === -1 ? bytes.length : found
    try {
      lines.push(utf8.decode(bytes.subarray(start, end)))
    } catch (error) {
      throw refuse(`its line ${lines.length + 1} is not UTF-8`, error)
    }
    if (lines.at(-1)?.trim() === 'EOF') break
    start = end + 1
  }
  return lines
}

/** The value of a mandatory key. */
export function required (values: ReadonlyMap<string, string>, key: string, refuse: Refuse): string {
  const value = values.get(key)
  if (value === undefined) throw refuse(`the key ${key} is missing`)
  return value
}

/** One of some words. */
export function oneOf<const T extends string> (words: readonly T[], key: string, value: string, refuse: Refuse): T {
  const found = words.find(word => word === value)
  if (found === undefined) throw refuse(`the key ${key} is ${JSON.stringify(value.slice(0, 80))}, not one of ${words.join(', ')}`)
  return found
}

/** A whole number that is not negative. */
export function wholeNumber (key: string, value: string, most: number, refuse: Refuse): number {
  if (!/^\d{1,16}$/.test(value) || Number(value) > most) throw refuse(`the key ${key} is ${JSON.stringify(value.slice(0, 80))}, not a number from 0 to ${most}`)
  return Number(value)
}
