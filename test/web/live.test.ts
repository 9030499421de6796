import { randomBytes } from 'node:crypto'
import { access, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page, Route } from 'playwright-core'
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

/** Holds back the answer to the next request for an address. What it resolves with resolves when there is one, with what lets it go. */
async function holdNext (page: Page, url: RegExp): Promise<{ held: Promise<() => Promise<void>> }> {
  let hold: (release: () => Promise<void>) => void = () => {}
  const held = new Promise<() => Promise<void>>(resolve => { hold = resolve })
  await page.route(url, async (route: Route) => {
    const response = await route.fetch()
    hold(async () => { await route.fulfill({ response }) })
  }, { times: 1 })
  return { held }
}

const frame = (event: string, data: object, id?: string) => `${id === undefined ? '' : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`

const task = (id: string, instance: string) => ({
  id,
  instance,
  runId: `run-${id}`,
  kind: 'storage.deleteImage',
  spec: { kind: 'storage.deleteImage', domain: 'local', image: 'x.raw' },
  state: 'running',
  cancelable: true,
  createdAt: new Date().toISOString(),
  revision: 1,
  tick: 0
})

/** Streams that break off, one for each time that the page connects; then none comes any more. */
async function playStreams (page: Page, streams: readonly string[]): Promise<void> {
  const left = [...streams]
  await page.route(/\/events/, async route => {
    const body = left.shift()
    // the last one is not answered
    if (body !== undefined) await route.fulfill({ contentType: 'text/event-stream', body: `retry: ${left.length > 0 ? 1 : 600_000}\n\n${body}` })
  })
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

t.test('what is typed for the next copy while the answer to the last one is awaited stays', async t => {
  const page = await visit(t)
  await imageOf(page, 'disk.raw').waitFor()
  await page.getByText('More', { exact: true }).click()
  await page.getByLabel('Image', { exact: true }).fill('disk.raw')
  await page.getByLabel('New image').fill('first.raw')
  await page.getByLabel('Id of the task').fill('first')
  const { held } = await holdNext(page, /\/tasks\/first/)
  await page.getByRole('button', { name: 'Start the copy' }).click()
  await resultOf(page, 'first').waitFor()
  await page.getByLabel('New image').fill('second.raw')
  await page.getByLabel('Replace the image of that name').check()
  await (await held)()
  await page.getByText('Task first was sent').waitFor()
  t.equal(await page.getByLabel('New image').inputValue(), 'second.raw')
  t.equal(await page.getByLabel('Replace the image of that name').isChecked(), true)
  t.equal(await page.getByLabel('Id of the task').inputValue(), '', 'what was left alone is used up')
})

t.test('when domains come and go, the one that is chosen stays chosen, and what is gone is not shown', async t => {
  const page = await visit(t)
  await imageOf(page, 'disk.raw').waitFor()
  const chosen = page.locator('select[name=targetDomain]')
  await chosen.selectOption('other')
  const { items } = await (await fetch(`${agent.address}/domains`)).json() as { items: object[] }
  await page.route(/\/domains$/, async route => { await route.fulfill({ json: { items: [{ ...items[0], domain: 'another' }, { ...items[0], domain: 'more' }, items[1]] } }) })
  await lookAgain(page)
  await page.getByRole('heading', { name: 'local' }).waitFor({ state: 'detached' })
  t.equal(await imageOf(page, 'disk.raw').count(), 0)
  t.same(await chosen.locator('option').allTextContents(), ['another', 'more', 'other'])
  t.equal(await chosen.inputValue(), 'other')
})

t.test('an answer that was overtaken does not hide the newer one', async t => {
  await writeFile(join(directory, 'images/early.raw'), randomBytes(MiB))
  const page = await visit(t)
  await imageOf(page, 'early.raw').waitFor()
  const { held } = await holdNext(page, /\/domains\/local\/images/)
  await lookAgain(page)
  const release = await held
  await client.putTask('late', { kind: 'storage.deleteImage', domain: 'local', image: 'early.raw' })
  await imageOf(page, 'early.raw').waitFor({ state: 'detached' })
  const answered = page.waitForResponse(/\/domains\/local\/images/)
  await release()
  await (await answered).finished()
  await page.evaluate('new Promise(resolve => { requestAnimationFrame(() => { setTimeout(resolve, 100) }) })')
  t.equal(await imageOf(page, 'early.raw').count(), 0)
})

t.test('an answer from before an event of Gluster does not take the event back', async t => {
  const operation = {
    operationId: 'a25688b9-2795-412f-b56b-667b23486dc8',
    kind: 'rebalance',
    volume: 'v0',
    state: 'running',
    nodes: [],
    complete: true,
    missing: [],
    observedAt: new Date().toISOString(),
    totals: { files: 0, bytes: 0, scanned: 0, failures: 0, skipped: 0, runtimeSeconds: 0 }
  }
  const instance = 'first'
  const page = await visit(t, async page => {
    await playStreams(page, [frame('synced', { instance }, `${instance}-1`) + frame('operation', { ...operation, state: 'stopped' }, `${instance}-2`)])
    await page.route(/\/gluster\/operations/, async route => {
      // until the event has been read, which came before
      await page.getByText('No connection to the agent').first().waitFor()
      await route.fulfill({ json: { items: [operation], observedAt: operation.observedAt } })
    })
  })
  await page.locator('#gluster [data-operation=v0]').getByText('stopped', { exact: true }).waitFor()
})

t.test('what a restart has made the agent forget is told, also when the stream begins anew twice', async t => {
  const page = await visit(t, async page => {
    await playStreams(page, [
      frame('task', task('lost', 'first')) + frame('synced', { instance: 'first' }, 'first-1'),
      frame('reset', { reason: 'instance-changed' }) + frame('task', task('new', 'second')),
      frame('reset', { reason: 'instance-changed' }) + frame('task', task('new', 'second')) + frame('synced', { instance: 'second' }, 'second-1')
    ])
  })
  await page.getByText('The agent was restarted and has forgotten its tasks').waitFor()
  t.same(await page.locator('#notices li').allTextContents(), ['lost: Delete local/x.raw'])
})

t.test('on a machine whose clock is ahead, results are shown for as long as the agent keeps them', async t => {
  const now = Date.now()
  const finished = (id: string, expiresInMs: number) => ({ ...task(id, 'first'), state: 'succeeded', endedAt: new Date(now).toISOString(), expiresAt: new Date(now + expiresInMs).toISOString() })
  const page = await visit(t, async page => {
    await page.clock.install({ time: now + 3_600_000 })
    await playStreams(page, [frame('task', finished('kept', 600_000)) + frame('task', finished('over', -10_000)) + frame('synced', { instance: 'first' }, 'first-1')])
  })
  await resultOf(page, 'kept').waitFor()
  await resultOf(page, 'over').waitFor({ state: 'detached' })
  t.equal(await resultOf(page, 'kept').count(), 1)
})

t.test('an agent that did not say who it is when it was first asked is asked again', async t => {
  const page = await visit(t, async page => {
    await page.route(/\/agent\/caller$/, async route => { await route.abort() }, { times: 1 })
  })
  await page.getByText('The agent does not answer').first().or(page.getByText('Live', { exact: true })).waitFor()
  await lookAgain(page)
  await page.getByText(/version \d/).waitFor()
})
