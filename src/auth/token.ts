import { createHash, randomBytes } from 'node:crypto'

/** The prefix lets scanners of logs and repositories find a token that has leaked. */
const shape = /^vdsmt_[A-Za-z0-9_-]{43}$/

/** Makes a token: 256 random bits. */
export function makeToken (): string {
  return `vdsmt_${randomBytes(32).toString('base64url')}`
}

/** Whether a text can be a token of ours. Nothing that a person has thought up can. */
export function isToken (text: string): boolean {
  return shape.test(text)
}

/**
 * What is stored of a token. One round of SHA-256 is enough: scrypt and the like make guesses dear, for secrets that can
 * be guessed, and nobody guesses 256 random bits. It would only make every request dear.
 */
export function digestOf (token: string): Buffer {
  return createHash('sha256').update(token).digest()
}
