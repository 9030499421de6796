import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { chromium, type Page } from 'playwright-core'
import type { Test } from 'tap'

// Debian's own Chromium, kept off the network: nothing but the agent is asked for anything.
const args = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-default-apps', '--disable-domain-reliability',
  '--host-resolver-rules=MAP rebound.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost'
]

/** A page in a fresh Chromium that ends with the test. */
export async function openPage (t: Test, options: { colorScheme?: 'light' | 'dark', width?: number, anyCertificate?: boolean } = {}): Promise<Page> {
  const profile = await mkdtemp(join(tmpdir(), 'vdsm-tasks-chromium-'))
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: '/usr/bin/chromium',
    args,
    ignoreHTTPSErrors: options.anyCertificate ?? false,
    colorScheme: options.colorScheme ?? 'light',
    viewport: { width: options.width ?? 1100, height: 700 }
  })
  t.teardown(async () => {
    await context.close()
    await rm(profile, { recursive: true, force: true })
  })
  return context.pages()[0] ?? await context.newPage()
}
