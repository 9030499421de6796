import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { Authority, forClients, forThisHost, type Pair } from './certificates.ts'
import { temporaryDirectory } from './directory.ts'

/** Everything that an agent with authentication and its clients need, in a directory of their own. */
export interface Secured {
  directory: string
  authority: Authority
  server: Pair
  /** By scope; `expired` is one that was for `admin`. */
  tokens: { read: string, operate: string, admin: string, expired: string }
  tokensFile: string
  clients: { allowed: Pair, stranger: Pair, expired: Pair, foreign: Pair, server: Pair }
  /** The configuration of the agent. */
  config: { auth: { tokensFile: string, tls: Pair & { clientCa: string }, clients: object[] }, listen: object[], domains: object[] }
}

export async function secure (t: Test): Promise<Secured> {
  const directory = await temporaryDirectory(t)
  const authority = await Authority.make(join(directory, 'ca'))
  const others = await Authority.make(join(directory, 'others'))
  const [server, allowed, stranger, expired, foreign, notClient] = await Promise.all([
    authority.issue('server', { extensions: forThisHost, cn: 'node1' }),
    authority.issue('engine.example', { extensions: forClients }),
    authority.issue('stranger.example', { extensions: forClients }),
    authority.issue('expired', { expired: true, cn: 'engine.example' }),
    others.issue('engine.example', { extensions: forClients }),
    authority.issue('not-client', { extensions: 'extendedKeyUsage=serverAuth\n', cn: 'engine.example' })
  ])
  const tokens = { read: makeToken(), operate: makeToken(), admin: makeToken(), expired: makeToken() }
  const createdAt = new Date()
  const tokensFile = join(directory, 'tokens')
  await writeFile(tokensFile, [
    ...(['read', 'operate', 'admin'] as const).map(scope => lineOf(tokens[scope], { name: `the-${scope}`, scope, createdAt })),
    lineOf(tokens.expired, { name: 'old', scope: 'admin', createdAt, expiresAt: new Date('2020-01-01') }), ''
  ].join('\n'))
  await mkdir(join(directory, 'domain'))
  return {
    directory,
    authority,
    server,
    tokens,
    tokensFile,
    clients: { allowed, stranger, expired, foreign, server: notClient },
    config: {
      listen: [{ port: 0, tls: true }, { port: 0, tls: false }, { unix: join(directory, 'a.sock') }],
      auth: { tokensFile, tls: { ...server, clientCa: authority.cert }, clients: [{ name: 'engine.example', scope: 'operate' }] },
      domains: [{ id: 'local', path: join(directory, 'domain'), create: true }]
    }
  }
}
