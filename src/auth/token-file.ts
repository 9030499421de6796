import { timingSafeEqual } from 'node:crypto'
import { isScope, scopes, type Scope } from './scope.ts'
import { digestOf, isToken } from './token.ts'

/** What a tokens file says of one token. The token itself is nowhere. */
export interface StoredToken {
  readonly name: string
  readonly scope: Scope
  /** SHA-256 of the token. */
  readonly digest: Buffer
  /** Milliseconds since 1970. */
  readonly expiresAt?: number
}

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$/

/** Whether a token can be called so. */
export function isTokenName (text: string): boolean {
  return namePattern.test(text)
}

/** The line of a tokens file for a token. */
export function lineOf (token: string, { name, scope, createdAt, expiresAt }: { name: string, scope: Scope, createdAt: Date, expiresAt?: Date }): string {
  return JSON.stringify({ name, scope, sha256: digestOf(token).toString('hex'), createdAt: createdAt.toISOString(), ...(expiresAt !== undefined && { expiresAt: expiresAt.toISOString() }) })
}

/**
 * Reads a tokens file: a JSON object in each line; empty lines and such that begin with # are skipped. A line is added
 * by appending it and taken back by removing it. Throws an Error that names the first line that is wrong.
 */
export function parseTokens (text: string): StoredToken[] {
  const { tokens, problems: [problem] } = readTokenLines(text)
  if (problem !== undefined) throw new Error(problem)
  return tokens
}

/**
 * Like `parseTokens`, but reads what can be read and says what is wrong with the rest. Of tokens with the same name none
 * is accepted: which of them was taken back is not known.
 */
export function readTokenLines (text: string): { tokens: StoredToken[], problems: string[] } {
  const problems: string[] = []
  const byName = new Map<string, StoredToken[]>()
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '' || line.startsWith('#')) continue
    try {
      const token = parseLine(line, index + 1)
      byName.set(token.name, [...byName.get(token.name) ?? [], token])
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error))
    }
  }
  for (const [name, { length }] of byName) if (length > 1) problems.push(`two tokens are called "${name}"`)
  return { tokens: [...byName.values()].filter(({ length }) => length === 1).flat(), problems }
}

function parseLine (line: string, number: number): StoredToken {
  // never the line itself: somebody may have put the token there
  const wrong = (what: string) => new Error(`line ${number}: ${what}`)
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    throw wrong('is not JSON. vdsm-tasks token create makes such lines')
  }
  if (typeof value !== 'object' || value === null) throw wrong('is not a JSON object')
  const { name, scope, sha256, createdAt: _, expiresAt, ...unknown } = value as Record<string, unknown>
  const [stranger] = Object.keys(unknown)
  if (stranger !== undefined) throw wrong(`has an unknown member "${stranger}"`)
  if (typeof name !== 'string' || !isTokenName(name)) throw wrong('"name" must be letters, digits and . _ @ -, at most 100')
  if (!isScope(scope)) throw wrong(`"scope" must be one of ${scopes.join(', ')}`)
  if (typeof sha256 !== 'string' || !/^[0-9a-f]{64}$/.test(sha256)) throw wrong('"sha256" must be 64 hexadecimal digits')
  const digest = Buffer.from(sha256, 'hex')
  if (expiresAt === undefined) return { name, scope, digest }
  const time = typeof expiresAt === 'string' ? Date.parse(expiresAt) : NaN
  if (Number.isNaN(time)) throw wrong('"expiresAt" must be a time, as 2027-01-31T00:00:00Z')
  return { name, scope, digest, expiresAt: time }
}

/** Finds what is stored of a token, also when it has expired. How long that takes says nothing of how close a wrong one was. */
export function findToken (tokens: readonly StoredToken[], presented: string): StoredToken | undefined {
  if (!isToken(presented)) return undefined
  const digest = digestOf(presented)
  let found: StoredToken | undefined
  for (const token of tokens) {
    if (timingSafeEqual(token.digest, digest)) found = token
  }
  return found
}

/** Whether the time of a token is over. */
export function isExpired ({ expiresAt }: StoredToken): boolean {
  return expiresAt !== undefined && expiresAt <= Date.now()
}
