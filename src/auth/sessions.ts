import { createHash, randomBytes } from 'node:crypto'
import type { StoredToken } from './token-file.ts'

/** A person works with the page for a day; a forgotten browser does not stay logged in for ever. */
const lifetimeMs = 12 * 3600 * 1000
/** Of one token. More would be somebody who logs in without end: his own oldest one goes, and nobody else's. */
const maximum = 100

/** What is known of somebody who has logged in. */
export interface Session {
  /** Of the token; not its name, which another one may have by now. */
  readonly tokenDigest: Buffer
  /** Milliseconds since 1970. */
  readonly endsAt: number
}

/**
 * Who has logged in with a browser. In memory: a restart of the agent forgets them. A session is worth what its token is
 * worth, and no longer; it is kept under a digest, so that its key is nowhere in the agent.
 */
export class Sessions {
  readonly #sessions = new Map<string, Session & { until: number }>()

  /** Begins a session and returns its key, for a cookie. */
  begin ({ digest: tokenDigest }: StoredToken): string {
    const now = performance.now()
    const own: string[] = []
    for (const [id, session] of this.#sessions) {
      if (session.until <= now) this.#sessions.delete(id)
      else if (session.tokenDigest.equals(tokenDigest)) own.push(id)
    }
    for (const id of own.slice(0, Math.max(0, own.length + 1 - maximum))) this.#sessions.delete(id)
    const key = randomBytes(32).toString('base64url')
    this.#sessions.set(digest(key), { tokenDigest, until: now + lifetimeMs, endsAt: Date.now() + lifetimeMs })
    return key
  }

  /** The session of a key, while it lasts. */
  find (key: string): Session | undefined {
    const id = digest(key)
    const session = this.#sessions.get(id)
    if (session === undefined || session.until > performance.now()) return session
    this.#sessions.delete(id)
    return undefined
  }

  end (key: string): void {
    this.#sessions.delete(digest(key))
  }
}

function digest (key: string): string {
  return createHash('sha256').update(key).digest('base64url')
}
