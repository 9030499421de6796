import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { TlsOptions } from 'node:tls'
import { readGuarded } from './guarded-file.ts'

/** Where the certificate, its key and the authority of clients are; all in PEM. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
  readonly clientCa?: string
}

/** Certificates that were read, and that fit together. */
export interface Certificates {
  readonly options: TlsOptions
  /** The agent's own. */
  readonly own: X509Certificate
  /** The authorities that may vouch for clients. */
  readonly clientAuthorities: readonly X509Certificate[]
}

const pem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** Reads certificates and key. Throws an Error that names the file. */
export function readCertificates (files: TlsFiles): Certificates {
  const cert = readGuarded(files.cert)
  const [own] = parse(files.cert, cert)
  if (own === undefined) throw new Error(`there is no certificate in ${files.cert}`)
  const key = readGuarded(files.key, { secret: true })
  let fits
  try {
    fits = own.checkPrivateKey(createPrivateKey(key))
  } catch (error) {
    throw new Error(`${files.key} is not a private key in PEM without a passphrase`, { cause: error })
  }
  if (!fits) throw new Error(`the key in ${files.key} is not that of the certificate in ${files.cert}`)
  const ca = files.clientCa === undefined ? undefined : readGuarded(files.clientCa)
  const clientAuthorities = ca === undefined ? [] : parse(files.clientCa ?? '', ca)
  if (ca !== undefined && clientAuthorities.length === 0) throw new Error(`there is no certificate in ${files.clientCa}`)
  return {
    own,
    clientAuthorities,
    options: {
      cert,
      key,
      minVersion: 'TLSv1.2',
      // a client may come with a token instead; who has neither is told so in words, not by a broken handshake
      requestCert: ca !== undefined,
      rejectUnauthorized: false,
      handshakeTimeout: 10_000,
      ...(ca !== undefined && { ca })
    }
  }
}

function parse (file: string, content: Buffer): X509Certificate[] {
  try {
    return (content.toString('latin1').match(pem) ?? []).map(text => new X509Certificate(text))
  } catch (error) {
    throw new Error(`a certificate in ${file} cannot be read`, { cause: error })
  }
}

/** Whether a certificate is for this name: its common name or one of its DNS names. Wildcards are nobody's name. */
export function isFor (certificate: X509Certificate, name: string): boolean {
  return certificate.checkHost(name, { subject: 'always', wildcards: false, partialWildcards: false }) !== undefined
}

/** Whether its time has come and is not over. */
export function isCurrent ({ validFrom, validTo }: X509Certificate): boolean {
  const now = Date.now()
  return Date.parse(validFrom) <= now && now < Date.parse(validTo)
}
