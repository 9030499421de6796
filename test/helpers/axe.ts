import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import type { Test } from 'tap'

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Where pictures of the page go, for people to look at; without it there are none. */
const pictures = process.env['VDSM_TASKS_PICTURES']

/** Checks the page as it is now against the rules of axe-core (WCAG 2.2 A and AA, and best practices), and takes its picture. */
export async function isAccessible (t: Test, page: Page, state: string): Promise<void> {
  if (pictures !== undefined) {
    await mkdir(pictures, { recursive: true })
    await page.screenshot({ path: join(pictures, `${state.replaceAll(' ', '-')}.png`), fullPage: true })
  }
  // evaluated from outside: the page's own policy lets no foreign script in
  await page.evaluate(axe)
  const { violations, passes } = await page.evaluate('axe.run()') as { violations: Array<{ id: string, nodes: Array<{ html: string, failureSummary: string }> }>, passes: unknown[] }
  t.ok(passes.length > 10, 'axe-core has looked')
  t.same(violations.map(({ id, nodes }) => ({ id, nodes: nodes.map(({ html, failureSummary }) => `${html}: ${failureSummary}`) })), [], `axe-core finds nothing: ${state}`)
}
