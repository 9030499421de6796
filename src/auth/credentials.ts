import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { AppError } from '../errors.ts'
import { combine, readAuthorities, readCertificates, readOwnPair, type Certificates, type TlsFiles } from './certificates.ts'
import { judge } from './client-certificate.ts'
import { readGuarded } from './guarded-file.ts'
import type { Caller, Scope } from './scope.ts'
import { Sessions } from './sessions.ts'
import { findToken, isExpired, parseTokens, readTokenLines, type StoredToken } from './token-file.ts'

/** A client whose certificate is accepted, by the name in it. */
export interface AllowedClient {
  readonly name: string
  readonly scope: Scope
}

/** How callers prove who they are. */
export interface AuthConfig {
  readonly tokensFile?: string
  readonly tls?: TlsFiles
  readonly clients: readonly AllowedClient[]
}

/** What comes with a request. */
export interface Presented {
  authorization: string | undefined
  /** From the cookie of a browser that has logged in. */
  sessionKey: string | undefined
  socket: Socket
  /** The mode of a file has decided who may come this way. */
  overUnixSocket: boolean
}

interface Known {
  tokens: readonly StoredToken[] | undefined
  certificates: Certificates | undefined
  clients: readonly AllowedClient[]
}

/** Those who need not say who they are. */
const overSocket: Caller = { who: 'local', via: 'unix socket', scope: 'admin' }
const overLoopback: Caller = { who: 'local', via: 'loopback', scope: 'admin' }

/** Knows who may talk to the agent. What it knows comes from files, and can be read anew while requests are served. */
export class Credentials {
  /** Whether callers must say who they are; if not, the agent listens where only this host can reach it. */
  readonly required: boolean
  readonly #sessions = new Sessions()
  #known: Known

  /** Throws an Error that names the file when something cannot be read. */
  constructor (config: AuthConfig) {
    this.#known = read(config)
    this.required = isRequired(config)
  }

  /** The certificate and key to listen with. */
  get certificates (): Certificates | undefined { return this.#known.certificates }

  /** Whether a browser can log in: with a token. */
  get takesTokens (): boolean { return this.#known.tokens !== undefined }

  /**
   * Reads everything again, and returns what is wrong with it. Whoever is not clearly allowed by what was read is not allowed
   * any more: tokens of lines that are broken or of a file that is gone, clients of an authority that cannot be read. Only the
   * agent's own certificate stays as it was, for it lets nobody in.
   */
  reload (config: AuthConfig): string[] {
    // what is bound by it, as the rate of requests, is set up at the start
    if (!this.required && isRequired(config)) return ['authentication is not in force, and begins only with a restart']
    const problems: string[] = []
    const attempt = <T>(read: () => T, otherwise: T): T => {
      try {
        return read()
      } catch (error) {
        problems.push(error instanceof Error ? error.message : String(error))
        return otherwise
      }
    }
    if (this.required && !isRequired(config)) problems.push('authentication ends only with a restart: until then nobody is accepted')
    const { tokensFile, tls, clients } = config
    const before = this.#known.certificates
    const own = tls === undefined ? before : attempt(() => readOwnPair(tls), before)
    const authorities = attempt(() => readAuthorities(tls?.clientCa), { clientAuthorities: [] })
    this.#known = {
      tokens: tokensFile === undefined ? undefined : attempt(() => rereadTokens(tokensFile, problems), []),
      certificates: own === undefined ? undefined : combine(own, authorities),
      clients
    }
    return problems
  }

  /** Finds out who a caller is. Throws `unauthenticated`, `credentials-invalid` or `certificate-not-allowed`. */
  identify ({ authorization, sessionKey, socket, overUnixSocket }: Presented): Caller {
    if (authorization !== undefined && this.takesTokens) return this.#byToken(authorization)
    const bySession = sessionKey === undefined ? undefined : this.#bySession(sessionKey)
    if (bySession !== undefined) return bySession
    const { certificates, clients } = this.#known
    const byCertificate = socket instanceof TLSSocket && certificates !== undefined ? judge(socket, certificates, clients) : undefined
    if (byCertificate !== undefined) return byCertificate
    if (overUnixSocket) return overSocket
    if (!this.required) return overLoopback
    throw new AppError('unauthenticated', `This agent answers only those it knows. Send ${this.takesTokens ? 'the header "Authorization: Bearer TOKEN" (vdsm-tasks --token-file; vdsm-tasks token create makes one)' : 'a client certificate (vdsm-tasks --cert-file and --key-file)'}.`)
  }

  /** Begins a session for a token, and returns its key. Throws `credentials-invalid`. */
  logIn (token: string): { key: string, caller: Caller } {
    const stored = this.#accepted(token)
    return { key: this.#sessions.begin(stored), caller: callerOf(stored, 'session') }
  }

  logOut (key: string): void {
    this.#sessions.end(key)
  }

  #byToken (authorization: string): Caller {
    const [, token] = /^Bearer +(\S+) *$/i.exec(authorization) ?? []
    if (token === undefined) throw new AppError('credentials-invalid', 'The Authorization header must be "Bearer TOKEN".')
    return callerOf(this.#accepted(token), 'token')
  }

  /** Nobody, when the session is over or its token was taken back: to log in again helps. */
  #bySession (key: string): Caller | undefined {
    const session = this.#sessions.find(key)
    const stored = session === undefined ? undefined : this.#known.tokens?.find(({ digest }) => digest.equals(session.tokenDigest))
    if (session === undefined || stored === undefined || isExpired(stored)) return undefined
    return { ...callerOf(stored, 'session'), until: Math.min(session.endsAt, stored.expiresAt ?? Infinity) }
  }

  #accepted (token: string): StoredToken {
    const stored = findToken(this.#known.tokens ?? [], token)
    if (stored === undefined) throw new AppError('credentials-invalid', 'The agent does not know this token. Either it was taken back, or it was made and the agent has not read its tokens since (SIGHUP).')
    if (isExpired(stored)) throw new AppError('credentials-invalid', `The time of the token "${stored.name}" is over. vdsm-tasks token create makes another one.`)
    return stored
  }
}

function isRequired ({ tokensFile, tls }: AuthConfig): boolean {
  return tokensFile !== undefined || tls?.clientCa !== undefined
}

function callerOf ({ name, scope, expiresAt }: StoredToken, via: 'token' | 'session'): Caller {
  return { who: name, via, scope, ...(expiresAt !== undefined && { until: expiresAt }) }
}

function read ({ tokensFile, tls, clients }: AuthConfig): Known {
  return {
    tokens: tokensFile === undefined ? undefined : readTokens(tokensFile),
    certificates: tls === undefined ? undefined : readCertificates(tls),
    clients
  }
}

function readTokens (file: string): StoredToken[] {
  try {
    return parseTokens(readGuarded(file).toString())
  } catch (error) {
    throw cannotRead(file, error)
  }
}

/** The tokens on the lines that can be read; what is wrong with the others is added to the problems. */
function rereadTokens (file: string, problems: string[]): StoredToken[] {
  try {
    const read = readTokenLines(readGuarded(file).toString())
    problems.push(...read.problems.map(problem => `the tokens in ${file}: ${problem}`))
    return read.tokens
  } catch (error) {
    throw cannotRead(file, error)
  }
}

function cannotRead (file: string, error: unknown): Error {
  return new Error(`the tokens in ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`, { cause: error })
}
