import type { X509Certificate } from 'node:crypto'
import type { TLSSocket } from 'node:tls'
import { AppError } from '../errors.ts'
import { isCurrent, isFor, type Certificates } from './certificates.ts'
import type { AllowedClient } from './credentials.ts'
import type { Caller } from './scope.ts'

interface Shown {
  certificate: X509Certificate | undefined
  /** What was in force when the authority was checked; absent when the check has failed. */
  trustedBy: Certificates | undefined
}

// requests come by the thousand, over one handshake
const shown = new WeakMap<TLSSocket, Shown>()

/** Keeps what a handshake has shown. To be called when it is complete: its first request may come after a rotation. */
export function remember (socket: TLSSocket, certificates: Certificates | undefined): void {
  shown.set(socket, { certificate: socket.getPeerX509Certificate(), trustedBy: socket.authorized ? certificates : undefined })
}

/**
 * Who is at the other end, by its certificate; nobody when it has shown none. It must be vouched for by an authority that
 * is trusted now, also when the connection is older than that; current; and for a name that is allowed.
 */
export function judge (socket: TLSSocket, certificates: Certificates, clients: readonly AllowedClient[]): Caller | undefined {
  const { certificate, trustedBy } = shown.get(socket) ?? {}
  if (certificate === undefined || certificates.clientAuthorities.length === 0) return undefined
  if (trustedBy === undefined) throw new AppError('credentials-invalid', `The client certificate is not accepted: ${String(socket.authorizationError)}.`)
  if (!stillTrusted(certificate, trustedBy, certificates)) throw new AppError('credentials-invalid', 'The authority of the client certificate is not trusted any more.')
  if (!isCurrent(certificate)) throw new AppError('credentials-invalid', `The client certificate is not valid now, but from ${certificate.validFrom} to ${certificate.validTo}.`)
  const client = clients.find(({ name }) => isFor(certificate, name))
  if (client === undefined) throw new AppError('certificate-not-allowed', 'None of the names in the client certificate is in "auth.clients" of the configuration.')
  return { who: client.name, via: 'certificate', scope: client.scope, until: Date.parse(certificate.validTo) }
}

function stillTrusted (certificate: X509Certificate, then: Certificates, now: Certificates): boolean {
  if (then === now) return true
  const kept = (authority: X509Certificate) => now.clientAuthorities.some(({ fingerprint256 }) => fingerprint256 === authority.fingerprint256)
  return then.clientAuthorities.every(kept) || now.clientAuthorities.some(authority => certificate.checkIssued(authority) && certificate.verify(authority.publicKey))
}
