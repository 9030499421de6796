import type { ConfigurationStatus } from './api/agent.ts'
import type { AuthConfig } from './auth/credentials.ts'
import type { Config, Reread } from './config.ts'
import { escapeUnprintable } from './unprintable.ts'

export interface ReloaderOptions {
  reread: () => Reread
  /** Puts tokens, certificates and clients in force, as far as they can be read. Returns what is wrong with them. */
  applyAuth: (auth: AuthConfig) => string[]
  /** Attaches and detaches domains. */
  applyDomains: (config: Config) => Promise<void>
  log: { info (message: string): void, error (details: object, message: string): void }
}

/**
 * Reads the configuration again while the agent runs. Who may come in is put in force first, and whatever is wrong with the
 * rest. The outcome of the last attempt stays, for /readyz and the metrics.
 */
export class Reloader {
  readonly #options: ReloaderOptions
  #status: ConfigurationStatus = { state: 'current', readAt: new Date().toISOString() }
  #last: Promise<unknown> = Promise.resolve()

  constructor (options: ReloaderOptions) {
    this.#options = options
  }

  get status (): ConfigurationStatus { return this.#status }

  /** One attempt after the other: each begins after it was asked for, and so sees what the file said then. */
  async reload (): Promise<ConfigurationStatus> {
    const attempt = this.#last.then(async () => await this.#attempt())
    this.#last = attempt
    return await attempt
  }

  async #attempt (): Promise<ConfigurationStatus> {
    const { reread, applyAuth, applyDomains, log } = this.#options
    const { config, auth, problems: wrong } = reread()
    const problems = [...wrong, ...applyAuth(auth)]
    if (config !== undefined) {
      await applyDomains(config).catch((error: unknown) => { problems.push(`the domains: ${error instanceof Error ? error.message : String(error)}`) })
    }
    const now = new Date().toISOString()
    if (problems.length === 0) {
      this.#status = { state: 'current', readAt: now }
      log.info('the configuration was read again: tokens, certificates, clients and domains are as it says')
    } else {
      this.#status = { state: 'failed', readAt: this.#status.readAt, failedAt: now, problems: problems.map(escapeUnprintable) }
      log.error({ problems: this.#status.problems }, `the configuration cannot be put in force as it is: ${this.#status.problems?.join('; ')}`)
    }
    return this.#status
  }
}
