import { resolve } from 'node:path'
import type { TlsFiles } from './certificates.ts'
import type { AllowedClient, AuthConfig } from './credentials.ts'
import { isScope } from './scope.ts'

/**
 * What a configuration that cannot be used as a whole says of authentication, so that a mistake elsewhere in it keeps nobody
 * in who was removed. What it does not clearly allow is not allowed. Relative paths start at `base`.
 */
export function salvageAuth (text: string, base: string): AuthConfig {
  const { tokensFile, tls, clients } = membersOf(authIn(text))
  const files = tlsIn(tls, base)
  return {
    clients: Array.isArray(clients) ? clients.flatMap(clientIn) : [],
    ...(isFilled(tokensFile) && { tokensFile: resolve(base, tokensFile) }),
    ...(files !== undefined && { tls: files })
  }
}

/** The value of "auth", also in a text that is not JSON elsewhere. */
function authIn (text: string): unknown {
  const whole = parse(text)
  if (whole !== undefined) return membersOf(whole)['auth']
  const [start, another] = [...text.matchAll(/"auth"\s*:\s*(?=\{)/g)]
  // which of two is meant nobody knows
  return start === undefined || another !== undefined ? undefined : parse(objectAt(text, start.index + start[0].length))
}

/** The text of the object that begins at an index, up to the brace that closes it. */
function objectAt (text: string, start: number): string {
  let depth = 0
  for (const { 0: token, index } of text.slice(start).matchAll(/"(?:[^"\\\n]|\\.)*"|[{}]/g)) {
    if (token === '{') depth++
    else if (token === '}' && --depth === 0) return text.slice(start, start + index + 1)
  }
  return ''
}

function parse (text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function membersOf (value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

function tlsIn (value: unknown, base: string): TlsFiles | undefined {
  const { cert, key, clientCa } = membersOf(value)
  if (!isFilled(cert) || !isFilled(key)) return undefined
  return { cert: resolve(base, cert), key: resolve(base, key), ...(isFilled(clientCa) && { clientCa: resolve(base, clientCa) }) }
}

function clientIn (value: unknown): AllowedClient[] {
  const { name, scope } = membersOf(value)
  return isFilled(name) && isScope(scope) ? [{ name, scope }] : []
}

function isFilled (value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
