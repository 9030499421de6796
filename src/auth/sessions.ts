import { createHash, randomBytes } from 'node:crypto'

/** A person works with the page for a day; a forgotten browser does not stay logged in for ever. */
const lifetimeMs = 12 * 3600 * 1000
/** More would be somebody who logs in without end: the oldest goes. */
const maximum = 1000

interface Session {
  tokenName: string
  endsAt: number
}

/**
 * Who has logged in with a browser. In memory: a restart of the agent forgets them. A session is worth what its token is
 * worth, and no longer; it is kept under a digest, so that its key is nowhere in the agent.
 */
export class Sessions {
  readonly #sessions = new Map<string, Session>()

  /** Begins a session and returns its key, for a cookie. */
  begin (tokenName: string): string {
    const [oldest] = this.#sessions.keys()
    if (this.#sessions.size >= maximum && oldest !== undefined) this.#sessions.delete(oldest)
    const key = randomBytes(32).toString('base64url')
    this.#sessions.set(digest(key), { tokenName, endsAt: performance.now() + lifetimeMs })
    return key
  }

  /** The name of the token that somebody has logged in with. */
  tokenOf (key: string): string | undefined {
    const id = digest(key)
    const session = this.#sessions.get(id)
    if (session === undefined) return undefined
    if (session.endsAt > performance.now()) return session.tokenName
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
