import { chromium, type Browser, type Page } from 'playwright-core'
import tap, { type Test } from 'tap'
import { needs } from './needs.ts'

needs('chromium')

// Debian's own Chromium, kept off the network: nothing but the agent is asked for anything.
const args = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-default-apps', '--disable-domain-reliability',
  '--host-resolver-rules=MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'
]

let browser: Promise<Browser> | undefined

/** One for all tests of a file: a start takes seconds. */
async function startBrowser (): Promise<Browser> {
  const started = await chromium.launch({ executablePath: '/usr/bin/chromium', args })
  tap.teardown(async () => { await started.close() })
  return started
}

/** A page of its own, with its own cookies, that ends with the test. */
export async function openPage (t: Test, options: { colorScheme?: 'light' | 'dark', width?: number, anyCertificate?: boolean } = {}): Promise<Page> {
  browser ??= startBrowser()
  const context = await (await browser).newContext({
    ignoreHTTPSErrors: options.anyCertificate ?? false,
    colorScheme: options.colorScheme ?? 'light',
    viewport: { width: options.width ?? 1100, height: 700 }
  })
  t.teardown(async () => { await context.close() })
  return await context.newPage()
}
