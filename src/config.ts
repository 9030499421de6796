import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { hostname } from 'node:os'
import { dirname, join, resolve, sep } from 'node:path'
import { Type, type Static, type TSchema } from '@sinclair/typebox'
import { Ajv, type ErrorObject } from 'ajv'
import { domainIdPattern, uuidPattern } from './api/names.ts'
import { Words } from './api/schema.ts'
import type { AuthConfig as Auth } from './auth/credentials.ts'
import { salvageAuth } from './auth/salvage.ts'
import { scopes } from './auth/scope.ts'

/** Something in the configuration is wrong: the message names the key and says what it may be. */
export class ConfigError extends Error {
  constructor (message: string, cause?: unknown) {
    super(message, { cause })
    this.name = 'ConfigError'
  }
}

const strict = { additionalProperties: false }

/** A group of keys that may be left out as a whole. */
function group<T extends Record<string, TSchema>> (properties: T) {
  return Type.Object(properties, { ...strict, default: {} })
}

const TcpListener = Type.Object({
  host: Type.String({ default: '127.0.0.1', description: 'Beyond loopback only with TLS and authentication: a host agent can overwrite disks.' }),
  port: Type.Integer({ minimum: 0, maximum: 65535, default: 7480, description: '0 takes any free port.' }),
  tls: Type.Optional(Type.Boolean({ description: 'By default where "auth.tls" is set. Only loopback may go without.' }))
}, strict)

const UnixListener = Type.Object({
  unix: Type.String({ minLength: 1, description: 'Path of a socket.' }),
  mode: Type.String({ pattern: '^0?[0-7]{3}$', default: '0600', description: 'Who may open it, as for chmod: whoever may, may do everything.' })
}, strict)

const AuthConfig = group({
  tokensFile: Type.Optional(Type.String({ minLength: 1, description: 'Digests of tokens, a line each: vdsm-tasks token create.' })),
  tls: Type.Optional(Type.Object({
    cert: Type.String({ minLength: 1, description: 'The certificate of the agent and those between it and its authority, PEM.' }),
    key: Type.String({ minLength: 1, description: 'Its private key, PEM.' }),
    clientCa: Type.Optional(Type.String({ minLength: 1, description: 'The authorities of client certificates, PEM.' }))
  }, strict)),
  clients: Type.Array(Type.Object({
    name: Type.String({ minLength: 1, maxLength: 255, description: 'The common name, or a DNS name, in the certificate of a client.' }),
    scope: Words(scopes, { description: '`read` looks; `operate` also creates, changes and cancels tasks; `admin` also reads the configuration.' })
  }, strict), { default: [], description: 'Whose client certificates are accepted, and for what.' })
})

/** The agent writes an image, and reads it again, after it was made. */
const ownerWritablePattern = '^0?[67][0-7]{2}$'

const DomainConfig = Type.Object({
  id: Type.String({ pattern: domainIdPattern, description: 'The same on every host that shares the domain.' }),
  layout: Words(['directory', 'ovirt'], { default: 'directory', description: '`ovirt`: a file domain of oVirt (storage format V5), whose id is its SDUUID.' }),
  path: Type.String({ minLength: 1, description: 'Absolute, or relative to the configuration file.' }),
  create: Type.Boolean({ default: false, description: 'Make the domain in an empty directory. Never set it where a file system must be mounted first.' }),
  sample: Type.Boolean({ default: false, description: 'Make a sample image in an empty domain.' }),
  owner: Type.Optional(Type.Object({
    uid: Type.Integer({ minimum: 0 }),
    gid: Type.Integer({ minimum: 0 })
  }, {
    ...strict,
    description: 'Owner of the images that the agent makes in the domain; with the layout `ovirt`, of all its files there. ' +
      'Only root can give files away. By default, when the agent runs as root, vdsm and kvm (36:36) with the layout `ovirt`, ' +
      'and the owner of the domain\'s directory with the layout `directory`. An image that is replaced keeps its owner.'
  })),
  mode: Type.Optional(Type.String({
    pattern: ownerWritablePattern,
    description: 'Mode of the images that the agent makes in the domain, as for chmod; the owner must be able to read and write. ' +
      '`0660` by default, whatever the umask is. An image that is replaced keeps its mode.'
  })),
  leases: Type.Optional(Words(['flock', 'sanlock'], { description: 'As `leases` below, of this domain. Only with the layout `ovirt`.' })),
  bandwidth: Type.Optional(Type.Integer({ minimum: 1, description: 'Bytes per second that the copies of this agent from and to the domain may have together.' }))
}, strict)

/** One line, for copy records. */
const linePattern = '^[^\\u0000-\\u001f\\u007f-\\u009f]*$'

const accountPattern = '^[a-z_][a-z0-9_-]{0,31}$'

/** Everything that can be configured, but for `listen`: see `listenerSchemas`. */
export const ConfigSchema = Type.Object({
  // one listener or a list of them; see parseListeners
  listen: Type.Unknown({ default: {} }),
  hostId: Type.Optional(Type.String({ minLength: 1, maxLength: 255, pattern: linePattern, description: 'What this host is called in copy records; the host name by default.' })),
  publicUrl: Type.Optional(Type.String({ maxLength: 2000, pattern: linePattern, description: 'Where other hosts can reach this agent; stands in copy records.' })),
  domains: Type.Array(DomainConfig, { default: [{ id: 'local', layout: 'directory', path: './var/images', create: true, sample: true }] }),
  discover: Type.Array(Type.String({ minLength: 1 }), { default: [], description: 'Mount roots. Below each, every directory that is named by a UUID and has dom_md/metadata in it is attached as a domain of the layout `ovirt`, at the start and on SIGHUP; links are not followed, and of one root at most 200 are.' }),
  leases: Words(['flock', 'sanlock'], { default: 'flock', description: 'What keeps two hosts from writing the same volume of a domain of the layout `ovirt`, discovered ones among them. `flock`: locks on files of our own; `sanlock`: the leases of volumes that vdsm takes, too. The same on every host that shares the domain.' }),
  sanlock: group({
    hostId: Type.Optional(Type.Integer({ minimum: 1, maximum: 2000, description: 'The number of this host in lockspaces, which no other host may have: the one that the engine has given it. Not needed where vdsm joins them.' }))
  }),
  recovery: Words(['manual', 'own', 'any'], { default: 'manual', description: '`manual`: an interrupted copy waits for mendImage. `own`: at its start the agent continues what this host was copying. `any`: and, every minute, what any host has left, where it is proven that locks keep other hosts away. `own` and `any` trust everyone who can write to a domain: see operations.md.' }),
  copy: group({
    maxConcurrent: Type.Integer({ minimum: 1, default: 4, description: 'Copies that run at the same time; others wait in order.' }),
    parallelWindows: Type.Integer({ minimum: 1, maximum: 16, default: 2, description: 'Windows of a raw target that are copied at the same time.' }),
    windowSeconds: Type.Number({ minimum: 0.5, maximum: 60, default: 4, description: 'Seconds of work that a window is meant to be: what a crash costs.' }),
    bandwidth: Type.Optional(Type.Integer({ minimum: 1, description: 'Bytes per second that all copies of this agent may have together.' })),
    nice: Type.Integer({ minimum: 0, maximum: 19, default: 10, description: 'How much copies give way to other programs of the host: nice(1). Guests come first.' }),
    ioPriority: Words(['normal', 'low', 'idle'], { default: 'low', description: 'What copies get of a disk that others want, too, where its scheduler knows priorities: ionice(1). `idle`: only what nobody else wants.' }),
    directIo: Type.Boolean({ default: true, description: 'Write past the page cache where that is possible, so that the data of guests stays in it.' }),
    reserveBytes: Type.Integer({
      minimum: 0,
      default: 64 * 1024 * 1024,
      description: 'What copies leave free in a domain, but at most 2 % of its file system: records can then always be written, and images mended and deleted.'
    }),
    keepDoneDays: Type.Integer({
      minimum: 1,
      maximum: 36_500,
      default: 90,
      description: 'How long the records of complete copies are kept, which answer "did it finish?" from any host.'
    }),
    clone: Type.Boolean({ default: true, description: 'Share the data of the source where the file system can (XFS, Btrfs), instead of copying it.' })
  }),
  tasks: group({
    retentionSeconds: Type.Number({ minimum: 1, maximum: 86400 * 30, default: 900, description: 'How long a finished task can be read.' }),
    acceptDeadlineSeconds: Type.Number({
      minimum: 1,
      maximum: 600,
      default: 10,
      description: 'How long the storage may be silent while a command is accepted, before the command fails with ' +
        '`storage-unresponsive`. While the storage answers, a busy host has six times as long (`accept-overdue`).'
    }),
    maxActive: Type.Integer({ minimum: 1, default: 1000, description: 'Tasks that are waiting or running; more are refused with 503.' }),
    maxRetained: Type.Integer({ minimum: 1, default: 100_000, description: 'Tasks in all, finished ones included; none is forgotten early for it but refused ones, more are refused with 503.' })
  }),
  gluster: group({
    pollSeconds: Type.Number({ minimum: 1, maximum: 3600, default: 5, description: 'How often Gluster is asked while an operation runs.' })
  }),
  events: group({
    history: Type.Integer({ minimum: 1, maximum: 1_000_000, default: 4096, description: 'Events that are remembered for clients that come back.' }),
    heartbeatSeconds: Type.Number({ minimum: 1, maximum: 3600, default: 15, description: 'How often a stream says that it is there; so peers that have vanished are found.' }),
    maxStreams: Type.Integer({ minimum: 1, default: 10_000, description: 'Streams that are open at the same time.' }),
    maxStreamsPerAddress: Type.Optional(Type.Integer({ minimum: 1, description: 'Streams from one address; as many as in all by default, for a proxy is one address.' }))
  }),
  auth: AuthConfig,
  runAs: Type.Optional(Type.Object({
    user: Type.String({ pattern: accountPattern, description: 'Whom the agent becomes at its start; it must be started as root.' }),
    group: Type.String({ pattern: accountPattern, description: 'That of the images.' })
  }, strict)),
  http: group({
    allowedHosts: Type.Array(Type.String(), { default: [], description: 'Names that a Host header may have besides loopback ones, those in the agent\'s certificate, and the address of the listener.' }),
    allowedOrigins: Type.Array(Type.String({ pattern: '^https?://[^/]+$' }), { default: [], description: 'Origins of pages that may use the agent (CORS), with a token.' }),
    maxBodyBytes: Type.Integer({ minimum: 1024, default: 1024 * 1024, description: 'Of a request.' }),
    maxHeaderBytes: Type.Integer({ minimum: 2048, maximum: 1024 * 1024, default: 16 * 1024, description: 'Of a request, all headers together.' }),
    headersTimeoutSeconds: Type.Number({ minimum: 0.5, maximum: 300, default: 15, description: 'How long the headers of a request may take to arrive.' }),
    requestTimeoutSeconds: Type.Number({ minimum: 0.5, maximum: 3600, default: 30, description: 'How long a whole request may take to arrive.' }),
    maxConnections: Type.Integer({ minimum: 1, default: 16_000, description: 'Connections that are open at the same time, streams included.' }),
    maxConnectionsPerAddress: Type.Integer({ minimum: 1, default: 12_000, description: 'A proxy is one address, and so is a host with many streams.' }),
    maxRequestsPerSecond: Type.Integer({ minimum: 1, default: 1000, description: 'Of one token or certificate. Streams count when they begin.' }),
    maxLagMs: Type.Integer({ minimum: 10, default: 2000, description: 'Requests that are not vital are refused when they would have to wait longer, and while the event loop lags more than that.' })
  }),
  log: group({
    level: Words(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], { default: 'info', description: '`info`: every transition of a task, changes and refusals. `debug`: every request, too.' })
  })
}, strict)

/** The two forms of a listener. */
export const listenerSchemas = { TcpListener, UnixListener } as const

type Parsed = Static<typeof ConfigSchema>
export type TcpListenConfig = { host: string, port: number, tls: boolean }
export type ListenConfig = TcpListenConfig | { unix: string, mode: string }

/** Everything that can be configured, checked, with defaults, and with absolute paths. */
export type Config = Readonly<Omit<Parsed, 'listen' | 'hostId'>> & { readonly listen: readonly ListenConfig[], readonly hostId: string }

/** Checks a configuration and fills in the defaults. Relative paths start at `base`. Throws ConfigError. */
export function parseConfig (value: unknown, base: string): Config {
  const given = complete(ConfigSchema, structuredClone(value), [])
  const auth = completeAuth(given.auth, base)
  const listen = parseListeners(given.listen, auth.tls !== undefined).map(listener => 'unix' in listener ? { ...listener, unix: resolve(base, listener.unix) } : listener)
  for (const listener of listen) checkListener(listener, auth)
  const domains = given.domains.map(domain => ({ ...domain, path: resolve(base, domain.path), ...(domain.layout === 'ovirt' && { leases: domain.leases ?? given.leases }) }))
  checkDomains(domains)
  return deepFreeze({
    ...given,
    hostId: given.hostId ?? hostname(),
    listen,
    auth,
    domains,
    discover: given.discover.map(root => resolve(base, root))
  })
}

/** Reads the configuration from a file, or takes the embedded default when there is none. Throws ConfigError. */
export function loadConfig (file: string | undefined, workingDirectory: string): Config {
  if (file === undefined) return parseConfig({}, workingDirectory)
  const path = resolve(workingDirectory, file)
  let text
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new ConfigError(`The configuration ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`, error)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new ConfigError(`The configuration ${path} is not JSON: ${error instanceof Error ? error.message : String(error)}`, error)
  }
  return parseConfig(value, dirname(path))
}

/** What a configuration file says when it is read again. */
export interface Reread {
  /** Absent when it cannot be used. */
  readonly config?: Config
  /** Also of a configuration that cannot be used, as far as it can be made out. */
  readonly auth: Auth
  readonly problems: readonly string[]
}

/** Reads the configuration of a running agent again. Does not throw: see `salvageAuth`. */
export function rereadConfig (file: string | undefined, workingDirectory: string): Reread {
  try {
    const config = loadConfig(file, workingDirectory)
    return { config, auth: config.auth, problems: [] }
  } catch (error) {
    const path = resolve(workingDirectory, file ?? '')
    return { auth: salvageAuth(textOf(path), dirname(path)), problems: [error instanceof Error ? error.message : String(error)] }
  }
}

function textOf (path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

// not TypeBox's Value.Default: it merges objects with their default, so that a wrong one or a __proto__ would vanish
// nor are the schemas checked, which would compile the schema of schemas first: it is our own
const ajv = new Ajv({ useDefaults: true, allErrors: true, strict: false, validateSchema: false })

/** Fills in the defaults. Throws ConfigError that names what is wrong; `at` is where the value stands. */
function complete<T extends TSchema> (schema: T, value: unknown, at: readonly string[]): Static<T> {
  const check = ajv.compile<Static<T>>(schema)
  if (check(value)) return value
  const errors = (check.errors ?? []).map(error => ({ error, key: [...at, ...keyOf(error)] }))
  const unknown = errors.find(({ error }) => error.keyword === 'additionalProperties')
  if (unknown !== undefined) throw new ConfigError(`Unknown key "${unknown.key.join('.')}" in the configuration. --show-config shows the keys there are.`)
  const [deepest] = errors.toSorted((a, b) => b.key.length - a.key.length)
  const what = deepest === undefined || deepest.key.length === 0 ? 'The configuration' : `The key "${deepest.key.join('.')}" in the configuration`
  throw new ConfigError(`${what} ${deepest === undefined ? 'is wrong' : words(deepest.error)}.`)
}

/** The key that an error is about: that of a missing or unknown member is not in its path. */
function keyOf ({ instancePath, params }: ErrorObject): string[] {
  const path = instancePath.split('/').slice(1).map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
  const member: unknown = params['additionalProperty'] ?? params['missingProperty']
  return typeof member === 'string' ? [...path, member] : path
}

function words ({ keyword, params, message = 'is wrong' }: ErrorObject): string {
  if (keyword === 'required') return 'is missing'
  return keyword === 'enum' ? `must be one of ${params['allowedValues'].join(', ')}` : message
}

/** Which kind of listener is meant is told by its keys: a union would complain about the other kind, too. */
function parseListeners (value: unknown, tls: boolean): ListenConfig[] {
  const parse = (listener: unknown, at: string[]): ListenConfig => {
    const isUnix = typeof listener === 'object' && listener !== null && 'unix' in listener
    return isUnix ? complete(UnixListener, listener, at) : { tls, ...complete(TcpListener, listener, at) }
  }
  if (!Array.isArray(value)) return [parse(value, ['listen'])]
  if (value.length === 0) throw new ConfigError('The key "listen" in the configuration must have at least one listener.')
  return value.map((listener, index) => parse(listener, ['listen', String(index)]))
}

function completeAuth ({ tokensFile, tls, clients }: Parsed['auth'], base: string) {
  if (clients.length > 0 && tls?.clientCa === undefined) throw new ConfigError('The key "auth.clients" in the configuration names clients, but "auth.tls.clientCa" does not say who vouches for their certificates.')
  return {
    clients,
    ...(tokensFile !== undefined && { tokensFile: resolve(base, tokensFile) }),
    ...(tls !== undefined && { tls: { cert: resolve(base, tls.cert), key: resolve(base, tls.key), ...(tls.clientCa !== undefined && { clientCa: resolve(base, tls.clientCa) }) } })
  }
}

/** Whether a host is this one's loopback, which nobody else can reach. */
export function isLoopback (host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** Throws ConfigError when a listener must not be open to whom it would be, with this authentication. */
export function checkListener (listener: ListenConfig, { tokensFile, tls }: Auth): void {
  if ('unix' in listener) {
    // longer ones are cut off without a word, and the socket then is somewhere else
    if (Buffer.byteLength(listener.unix) > 107) throw new ConfigError(`The path of the socket ${listener.unix} is too long: a path of a unix socket may have 107 bytes.`)
    return
  }
  const { host } = listener
  if (listener.tls && tls === undefined) throw new ConfigError(`The listener on ${host} is to use TLS, but "auth.tls" is not set: {"cert": "cert.pem", "key": "key.pem"}.`)
  if (isLoopback(host)) return
  const missing = [
    ...listener.tls ? [] : [tls === undefined ? 'TLS (set "auth.tls" to {"cert": "cert.pem", "key": "key.pem"})' : 'TLS (remove "tls": false)'],
    ...tokensFile !== undefined || tls?.clientCa !== undefined ? [] : ['authentication (set "auth.tokensFile", or "auth.tls.clientCa" and "auth.clients")']
  ]
  if (missing.length > 0) throw new ConfigError(`The agent does not listen on ${host} without ${missing.join(' and ')}: beyond loopback others can reach it, and it can overwrite disks. Or set "listen" to {"host": "127.0.0.1"} or to {"unix": "/run/vdsm-tasks.sock"}.`)
}

const isUuid = new RegExp(uuidPattern)

function checkDomains (domains: ReadonlyArray<Static<typeof DomainConfig>>): void {
  const ids = new Set<string>()
  for (const { id, path, layout, create, sample, leases } of domains) {
    if (ids.has(id)) throw new ConfigError(`Two domains in the configuration have the id "${id}".`)
    ids.add(id)
    if (layout === 'ovirt' && (create || sample)) throw new ConfigError(`Domain "${id}" in the configuration has the layout ovirt: such domains are made by the engine, so "create" and "sample" cannot be set.`)
    if (layout === 'ovirt' && !isUuid.test(id)) throw new ConfigError(`Domain "${id}" in the configuration has the layout ovirt: its id must be its SDUUID, which ${join(path, 'dom_md/metadata')} tells.`)
    if (layout !== 'ovirt' && leases !== undefined) throw new ConfigError(`Domain "${id}" in the configuration has the layout ${layout}, whose leases are always locks on files: remove "leases".`)
    const outer = domains.find(other => other.id !== id && (path === other.path || path.startsWith(other.path.endsWith(sep) ? other.path : other.path + sep)))
    if (outer !== undefined) throw new ConfigError(`Domain "${id}" (${path}) lies in domain "${outer.id}" (${outer.path}). Domains must not be nested.`)
  }
}

function deepFreeze<T> (value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const member of Object.values(value)) deepFreeze(member)
    Object.freeze(value)
  }
  return value
}
