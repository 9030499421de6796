import { randomBytes } from 'node:crypto'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { Client } from '../../src/client/client.ts'
import { openPage } from '../helpers/browser.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(180_000)

const MiB = 1024 * 1024
const directory = await makeDirectory(t)
const agent = await startAgent(t, directory, { domains: [{ id: 'local', path: './images', create: true }, { id: 'other', path: './other', create: true }] })
const client = new Client({ url: agent.address })
t.teardown(async () => { await client.close() })
await until(async () => (await client.domains()).every(({ state }) => state === 'available'), 'the domains to be there')
await writeFile(join(directory, 'images/disk.raw'), randomBytes(4 * MiB))

const imageOf = (page: Page, image: string) => page.locator(`[data-image="local/${image}"]`)
const resultOf = (page: Page, id: string) => page.locator(`#results [data-task="${id}"]`)
const lookAgain = async (page: Page) => { await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))') }

/** A page on the agent, which does not have to become live. */
async function visit (t: Test, prepare?: (page: Page) => Promise<void>): Promise<Page> {
  const page = await openPage(t)
  const wrong: string[] = []
  page.on('pageerror', error => { wrong.push(String(error)) })
  t.teardown(() => { if (wrong.length > 0) throw new Error(wrong.join('\n')) })
  await prepare?.(page)
  await page.goto(agent.address)
  return page
}

t.test('a copy that was completed while the question was open is not deleted for an unfinished one', async t => {
  const target = join(directory, 'images/precious.raw')
  await writeFile(target, randomBytes(MiB))
  const spec = { kind: 'storage.copyImage', source: { domain: 'local', image: 'disk.raw' }, target: { domain: 'local', image: 'precious.raw' }, onExisting: 'replace' } as const
  await client.putTask('replace', { ...spec, bandwidth: 1 })
  await until(async () => (await client.getTask('replace')).task.state === 'running')
  await client.cancelTask('replace')
  await until(async () => (await client.getTask('replace')).task.state === 'canceled')
  const page = await visit(t)
  await page.getByRole('button', { name: 'Delete local/precious.raw' }).click()
  await page.getByText('Removes the unfinished copy and leaves the image.').waitFor()
  await client.putTask('again', spec)
  await until(async () => (await client.getTask('again')).task.state === 'succeeded')
  await until(async () => (await client.fixes('local')).length === 0)
  await page.getByRole('button', { name: 'Delete', exact: true }).click()
  await page.getByRole('alert').getByText('nothing was deleted').waitFor()
  await t.resolves(access(target))
})
