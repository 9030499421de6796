import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sh } from './images.ts'

/** A certificate and its key, as files and as curl and Node take them. */
export interface Pair { cert: string, key: string }

/** An authority of one's own, made by openssl, in a directory. */
export class Authority {
  readonly cert: string
  readonly #key: string
  readonly #directory: string

  private constructor (directory: string) {
    this.#directory = directory
    this.cert = join(directory, 'ca.pem')
    this.#key = join(directory, 'ca.key')
  }

  static async make (directory: string): Promise<Authority> {
    await mkdir(directory, { recursive: true })
    const authority = new Authority(directory)
    await sh('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-days', '30', '-keyout', authority.#key, '-out', authority.cert, '-subj', '/CN=authority', '-addext', 'keyUsage=keyCertSign')
    return authority
  }

  /** A certificate for a name. One that has expired was valid for a day of the year 2020. */
  async issue (name: string, { extensions = '', expired = false, cn = name }: { extensions?: string, expired?: boolean, cn?: string } = {}): Promise<Pair> {
    const file = (kind: string) => join(this.#directory, `${name}.${kind}`)
    const pair = { cert: file('pem'), key: file('key') }
    await writeFile(file('ext'), extensions)
    await sh('openssl', 'req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-keyout', pair.key, '-out', file('csr'), '-subj', `/CN=${cn}`)
    if (!expired) {
      await sh('openssl', 'x509', '-req', '-in', file('csr'), '-CA', this.cert, '-CAkey', this.#key, '-set_serial', String(Math.floor(Math.random() * 2 ** 48)), '-days', '20', '-extfile', file('ext'), '-out', pair.cert)
      return pair
    }
    // openssl x509 knows days only from now on
    await writeFile(file('index'), '')
    await writeFile(file('cnf'), `[ca]\ndefault_ca=d\n[d]\ndatabase=${file('index')}\nnew_certs_dir=${this.#directory}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n`)
    await sh('openssl', 'ca', '-batch', '-notext', '-config', file('cnf'), '-cert', this.cert, '-keyfile', this.#key, '-in', file('csr'), '-out', pair.cert, '-startdate', '20200101000000Z', '-enddate', '20200102000000Z')
    return pair
  }
}

/** What the certificate of an agent on this host needs. */
export const forThisHost = 'subjectAltName=DNS:localhost,DNS:node1.example,IP:127.0.0.1\n'
export const forClients = 'extendedKeyUsage=clientAuth\n'
