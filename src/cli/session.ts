import { readFileSync, statSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Client } from '../client/client.ts'
import { quoted } from './address.ts'
import { exit, UsageError, type ExitStatus } from './exit.ts'
import { Output, render, type Piece, type Sink } from './output.ts'

/** What a command gets of its process. */
export interface Surroundings {
  stdin: NodeJS.ReadableStream & { isTTY?: boolean }
  stdout: Sink
  stderr: Sink
  env: Readonly<Record<string, string | undefined>>
  directory: string
  exit (status: ExitStatus): never
  /** Calls back when nobody reads standard output any more, where that can be told without writing. */
  onReaderGone? (gone: () => void): void
}

/** The options that every command takes. */
export interface GlobalOptions {
  url?: string
  tokenFile?: string
  caFile?: string
  certFile?: string
  keyFile?: string
  json?: boolean
  patience?: number
}

/** One call of the command line: what it was given, its connection to the agent, and how it ends. */
export class Session {
  readonly out: Output
  readonly stderr: Sink
  readonly directory: string
  readonly env: Surroundings['env']
  readonly exit: (status: ExitStatus) => never
  /** What the command ends with unless it throws. */
  status: ExitStatus = exit.done
  readonly #surroundings: Surroundings
  #options: GlobalOptions = {}
  #client: Client | undefined
  #onInterrupt: (() => void) | undefined

  constructor (surroundings: Surroundings) {
    this.#surroundings = surroundings
    this.out = new Output(surroundings.stdout)
    this.stderr = surroundings.stderr
    this.directory = surroundings.directory
    this.env = surroundings.env
    this.exit = surroundings.exit
  }

  /** Takes over the options; the environment stands in for those that are not given. */
  configure (options: GlobalOptions): void {
    this.#options = options
  }

  get json (): boolean { return this.#options.json === true }
  /** For how long an agent that was there is tried again. */
  get patienceMs (): number { return (this.#options.patience ?? 600) * 1000 }
  /** Whether there is a person who sees questions and can answer them. */
  get interactive (): boolean { return this.#surroundings.stdin.isTTY === true && this.stderr.isTTY === true }

  /** The agent. It is tried once: a person wants to know at once that it is not there. */
  get client (): Client {
    this.#client ??= this.#connect()
    return this.#client
  }

  /** Says one line that is not the result. */
  say (...pieces: readonly Piece[]): void {
    this.stderr.write(`${render(this.stderr, pieces)}\n`)
  }

  /** How to call another command of the same agent. */
  hint (command: string): string {
    const { url, tokenFile, caFile, certFile, keyFile } = this.#options
    const options = { '--url': url, '--token-file': tokenFile, '--ca-file': caFile, '--cert-file': certFile, '--key-file': keyFile }
    return ['vdsm-tasks', ...Object.entries(options).flatMap(([option, value]) => value === undefined ? [] : [option, quoted(value)]), command].join(' ')
  }

  /** Sets what Ctrl-C does from now on; by default it ends the command. */
  onInterrupt (handler: (() => void) | undefined): void {
    this.#onInterrupt = handler
  }

  /** Ctrl-C was pressed. */
  interrupt (): void {
    if (this.#onInterrupt === undefined) this.exit(exit.interrupted)
    this.#onInterrupt()
  }

  /** Whoever reads the output has gone, as `| head` does when it has seen enough. What is still being followed is not done. */
  gone (): never {
    return this.exit(this.#onInterrupt === undefined ? this.status : exit.failed)
  }

  /** Ends, as `gone` does, as soon as nobody reads the output: for commands that may have nothing to write for long. */
  endWithReader (): void {
    this.#surroundings.onReaderGone?.(() => { this.gone() })
  }

  /** Asks the person in front; undefined when no answer comes, or none is needed any more. */
  async ask (question: string, signal: AbortSignal): Promise<string | undefined> {
    // not as a terminal: line editing would swallow Ctrl-C
    const lines = createInterface({ input: this.#surroundings.stdin, terminal: false, signal })
    // below what is typed and drawn
    this.stderr.write(`\n${render(this.stderr, [question])}`)
    const answer = await new Promise<string | undefined>(resolve => {
      lines.once('line', line => { resolve(line.trim()) }).once('close', () => { resolve(undefined) })
    })
    lines.close()
    return answer
  }

  async close (): Promise<void> {
    await this.#client?.close()
  }

  #connect (): Client {
    const { env } = this
    const { url = env['VDSM_TASKS_URL'] || 'http://127.0.0.1:7480' } = this.#options
    if (!/^(https?:\/\/|unix:\/)/.test(url) || !URL.canParse(url)) throw new UsageError(`The URL of the agent is ${url}: it must be http://HOST:PORT, https://HOST:PORT or unix:/PATH.`)
    const tokenFile = this.#options.tokenFile ?? (env['VDSM_TASKS_TOKEN_FILE'] || undefined)
    const files = {
      ca: this.#options.caFile ?? (env['VDSM_TASKS_CA_FILE'] || undefined),
      cert: this.#options.certFile ?? (env['VDSM_TASKS_CERT_FILE'] || undefined),
      key: this.#options.keyFile ?? (env['VDSM_TASKS_KEY_FILE'] || undefined)
    }
    if ((files.cert === undefined) !== (files.key === undefined)) throw new UsageError('A client certificate needs both --cert-file and --key-file.')
    const tls = Object.fromEntries(Object.entries(files).flatMap(([name, file]) => file === undefined ? [] : [[name, readText(file)]]))
    return new Client({ url, retryMs: 0, tls, ...(tokenFile !== undefined && { token: this.#readToken(tokenFile) }) })
  }

  #readToken (file: string): string {
    const token = readToken(file)
    const { mode } = statSync(file)
    // a pipe, as from a password manager, is nobody else's
    if ((mode & 0o170000) === 0o100000 && (mode & 0o044) !== 0) this.say(`Others on this host can read the token in ${file}. chmod 600 ${quoted(file)}, and make another token.`)
    return token
  }
}

function readText (file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new UsageError(`The file ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function readToken (file: string): string {
  let token
  try {
    token = readFileSync(file, 'utf8').trim()
  } catch (error) {
    throw new UsageError(`The token cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
  // anything else would be refused as a header, with a message that shows it
  if (!/^[\x21-\x7e]+$/.test(token)) throw new UsageError(`The file ${file} does not hold a token: one line of visible characters.`)
  return token
}
