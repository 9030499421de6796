/** What somebody may do; each includes those before it. */
export const scopes = ['read', 'operate', 'admin'] as const
export type Scope = (typeof scopes)[number]

/** Whether a word is a scope. */
export function isScope (word: unknown): word is Scope {
  return scopes.some(scope => scope === word)
}

/** Whether who has one scope may do what needs the other. */
export function includes (has: Scope, needed: Scope): boolean {
  return scopes.indexOf(has) >= scopes.indexOf(needed)
}

/** Whoever sends a request, as far as the agent knows. */
export interface Caller {
  /** The name of the token or of the certificate; for those who need neither, how they came. */
  readonly who: string
  readonly via: 'token' | 'session' | 'certificate' | 'unix socket' | 'loopback'
  readonly scope: Scope
  /** When his token, session or certificate is over by itself; milliseconds since 1970. */
  readonly until?: number
}
