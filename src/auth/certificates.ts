import { createPrivateKey, X509Certificate } from 'node:crypto'
import type { TlsOptions } from 'node:tls'
import { readGuarded } from './guarded-file.ts'

/** Where the certificate, its key and the authority of clients are; all in PEM. */
export interface TlsFiles {
  readonly cert: string
  readonly key: string
  readonly clientCa?: string
}

/** The agent's own certificate, with its key. */
export interface OwnPair {
  readonly own: X509Certificate
  readonly cert: Buffer
  readonly key: Buffer
}

/** The authorities that may vouch for clients. */
export interface Authorities {
  readonly clientAuthorities: readonly X509Certificate[]
  readonly ca?: Buffer
}

/** Certificates that were read, and that fit together. */
export interface Certificates extends OwnPair, Authorities {
  readonly options: TlsOptions
}

/** Of TLS 1.2 only what has forward secrecy and authenticates what it encrypts; TLS 1.3 has nothing else. */
const ciphers = [
  'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256', 'TLS_AES_128_GCM_SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305', 'ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256'
].join(':')

const pem = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g

/** Reads certificates and key. Throws an Error that names the file. */
export function readCertificates (files: TlsFiles): Certificates {
  return combine(readOwnPair(files), readAuthorities(files.clientCa))
}

/** Reads the agent's own certificate and its key. Throws an Error that names the file. */
export function readOwnPair (files: Pick<TlsFiles, 'cert' | 'key'>): OwnPair {
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
  return { own, cert, key }
}

/** Reads the authorities of clients; none without a file. Throws an Error that names the file. */
export function readAuthorities (file: string | undefined): Authorities {
  if (file === undefined) return { clientAuthorities: [] }
  const ca = readGuarded(file)
  const clientAuthorities = parse(file, ca)
  if (clientAuthorities.length === 0) throw new Error(`there is no certificate in ${file}`)
  return { clientAuthorities, ca }
}

/** Both parts, as a server uses them. */
export function combine ({ own, cert, key }: OwnPair, { clientAuthorities, ca }: Authorities): Certificates {
  return {
    own,
    cert,
    key,
    clientAuthorities,
    ...(ca !== undefined && { ca }),
    options: {
      cert,
      key,
      minVersion: 'TLSv1.2',
      ciphers,
      honorCipherOrder: true,
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
