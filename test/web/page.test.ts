import { randomBytes } from 'node:crypto'
import { open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import t, { type Test } from 'tap'
import { Client } from '../../src/client/client.ts'
import type { TaskSpec } from '../../src/client/types.ts'
import { isAccessible } from '../helpers/axe.ts'
import { openPage } from '../helpers/browser.ts'
import { freePort, makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { makeOld, sh } from '../helpers/images.ts'
import { domainProcess, until } from '../helpers/processes.ts'
import { useRecordedGluster } from '../helpers/recorded-gluster.ts'

t.setTimeout(180_000)

const MiB = 1024 * 1024

const directory = await makeDirectory(t)
await useRecordedGluster(t, directory)

/** One agent for all: what a test makes has names of its own. */
const config = {
  listen: { port: await freePort() },
  hostId: 'node1',
  domains: [{ id: 'local', path: './images', create: true }, { id: 'far', path: './nowhere' }, { id: 'hung', path: './hung', create: true }]
}
let agent = await startAgent(t, directory, config)
const startAgain = async () => { agent = await startAgent(t, directory, config) }
const client = new Client({ url: agent.address })
t.teardown(async () => { await client.close() })
await until(async () => (await client.domains())[0]?.state === 'available', 'the domain to be there')
for (const [image, size] of [['disk.raw', 24], ['large.raw', 96], ['old.raw', 1]] as const) await writeFile(join(directory, 'images', image), randomBytes(size * MiB))

const copyTo = (image: string, bandwidth?: number, source = 'disk.raw'): TaskSpec => ({
  kind: 'storage.copyImage', source: { domain: 'local', image: source }, target: { domain: 'local', image }, ...(bandwidth !== undefined && { bandwidth })
})

const taskOf = (page: Page, id: string) => page.locator(`#running [data-task="${id}"]`)
const resultOf = (page: Page, id: string) => page.locator(`#results [data-task="${id}"]`)
const imageOf = (page: Page, image: string) => page.locator(`[data-image="local/${image}"]`)

/** A page on the agent, with everything that went wrong in it. */
async function visit (t: Test, options: Parameters<typeof openPage>[1] = {}): Promise<{ page: Page, wrong: string[] }> {
  const page = await openPage(t, options)
  const wrong: string[] = []
  page.on('pageerror', error => { wrong.push(String(error)) })
  page.on('console', message => { if (/Content Security Policy|Refused to/.test(message.text())) wrong.push(message.text()) })
  page.on('request', request => { if (!request.url().startsWith(agent.address) && !request.url().startsWith('data:')) wrong.push(`asked ${request.url()}`) })
  await page.goto(agent.address)
  await page.getByText('Live', { exact: true }).waitFor()
  return { page, wrong }
}

/** Starts a copy from the form, with the keyboard alone. */
async function fillForm (page: Page, { source, target, id, limit = '' }: { source: string, target: string, id: string, limit?: string }): Promise<void> {
  const type = async (label: string, words: string) => {
    await page.getByLabel(label, { exact: true }).focus()
    await page.keyboard.press('Control+A')
    await page.keyboard.type(words)
  }
  await type('Image', source)
  await type('New image', target)
  await page.getByText('More', { exact: true }).focus()
  if (await page.getByLabel('Id of the task').isHidden()) await page.keyboard.press('Enter')
  await type('Limit, MiB per second', limit)
  await type('Id of the task', id)
  await page.keyboard.press('Enter')
}

t.test('copies are started, watched, canceled, and go on after the agent was killed under the open page', async t => {
  const { page, wrong } = await visit(t)
  await page.getByText('Nothing is under way.').waitFor()
  await imageOf(page, 'disk.raw').waitFor()
  await isAccessible(t, page, 'idle')

  await fillForm(page, { source: 'disk.raw', target: 'night.qcow2', id: 'night' })
  await resultOf(page, 'night').getByText('succeeded').waitFor()
  t.match(await resultOf(page, 'night').textContent(), /Complete, 24 MiB; 24 MiB moved/)
  await imageOf(page, 'night.qcow2').waitFor()

  await page.getByText('Task night was sent: succeeded.').waitFor()
  await fillForm(page, { source: 'nosuch.raw', target: 'other.qcow2', id: 'wrong' })
  await page.getByRole('alert').getByText('No such image.').waitFor()
  await fillForm(page, { source: 'disk.raw', target: 'old.raw', id: 'taken' })
  await page.getByRole('alert').getByText('or tick Replace below More.').waitFor()
  await page.getByLabel('Replace the image of that name').check()
  await fillForm(page, { source: 'disk.raw', target: 'old.raw', id: 'replaced' })
  // the event may be there before the answer
  await page.getByText('Task replaced was sent: succeeded.').waitFor()
  t.equal(await page.getByLabel('Replace the image of that name').isChecked(), false, 'for this once')

  await fillForm(page, { source: 'large.raw', target: 'slow.raw', id: 'slow', limit: '1' })
  const bar = taskOf(page, 'slow').getByRole('progressbar')
  await bar.waitFor()
  const value = async () => Number(await page.evaluate('document.querySelector("[data-task=slow] progress").value'))
  const begin = await value()
  await until(async () => await value() > begin, 'the bar to move')
  t.ok(Number(await bar.getAttribute('max')) === 96 * MiB, 'the bar moves, and its end is the size of the disk')
  await page.locator('#curve canvas').waitFor()
  t.match(await page.locator('#curve').getAttribute('aria-label'), /at most [\d.]+ [KM]iB per second/)
  await page.getByLabel('New image').focus()
  await page.keyboard.type('half-typed')
  await client.putTask('other', copyTo('other.raw', MiB / 4))
  await taskOf(page, 'other').waitFor()
  t.equal(await page.getByLabel('New image').inputValue(), 'half-typed', 'what happens elsewhere leaves the form alone')
  await page.getByLabel('New image').fill('')
  await isAccessible(t, page, 'running')

  await page.getByRole('button', { name: 'Cancel other' }).press('Enter')
  await resultOf(page, 'other').getByText('Canceled. What is copied stays').waitFor()
  await imageOf(page, 'other.raw').getByText('interrupted', { exact: true }).waitFor()
  t.match(await page.locator('#said').textContent(), /^Task \S+: \w+$/, 'screen readers are told')

  const wide = 'w'.repeat(180)
  await client.putTask(wide, copyTo(`${wide}.raw`, MiB / 4))
  await taskOf(page, wide).waitFor()
  await agent.kill()
  await page.getByText('No connection to the agent, trying again').first().waitFor()
  await isAccessible(t, page, 'broken stream')
  await startAgain()
  await page.getByText('The agent was restarted and has forgotten its tasks').waitFor()
  await page.getByText('Live', { exact: true }).waitFor()
  t.equal(await page.locator('#results [data-task]').count() + await page.locator('#running [data-task]').count(), 0, 'forgotten tasks are gone')
  t.match(await page.locator('#notices').textContent(), /Forgotten while under way:\s*slow: Copy local\/large.raw to local\/slow.raw/)
  await imageOf(page, 'slow.raw').getByText('interrupted', { exact: true }).waitFor()
  t.match(await imageOf(page, 'slow.raw').textContent(), /MiB of 96 MiB · by node1, task slow/)
  await isAccessible(t, page, 'restarted')
  await page.setViewportSize({ width: 360, height: 700 })
  t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, 'long names break, also on a phone')
  await page.setViewportSize({ width: 1100, height: 700 })
  await page.getByRole('button', { name: 'Dismiss' }).click()

  await page.getByRole('button', { name: 'Continue local/slow.raw' }).press('Enter')
  // it keeps the limit of the copy, and nobody wants to wait that long
  const { items: [mend] } = await until(async () => { const list = await client.listTasks({ state: ['active'], kind: ['storage.mendImage'] }); return list.items.length > 0 && list }, 'the copy to go on')
  await client.tuneTask(mend?.id ?? '', null)
  await page.locator('#results').getByText(/Complete, 96 MiB; [\d.]+ MiB moved, in 2 runs/).waitFor()
  await page.getByRole('button', { name: 'Copy local/slow.raw' }).waitFor()

  await page.getByRole('button', { name: 'Delete local/other.raw' }).press('Enter')
  await page.getByRole('dialog', { name: 'Delete local/other.raw?' }).waitFor()
  await isAccessible(t, page, 'delete asked')
  await page.keyboard.press('Escape')
  await page.getByRole('button', { name: 'Delete local/other.raw' }).and(page.locator(':focus')).waitFor()
  t.equal(await imageOf(page, 'other.raw').count(), 1, 'Escape deletes nothing, and the focus is where it was')
  await page.keyboard.press('Enter')
  await page.getByRole('dialog', { name: 'Delete local/other.raw?' }).waitFor()
  t.equal(await page.evaluate(`new Promise(resolve => {
    const dialog = document.querySelector('dialog')
    dialog.addEventListener('close', () => { requestAnimationFrame(() => setTimeout(() => resolve(dialog.open && dialog.isConnected))) })
    dialog.close()
    document.querySelector('[aria-label="Delete local/other.raw"]').click()
  })`), true, 'closed and opened again before the first is told, it is open')
  await page.getByRole('button', { name: 'Delete', exact: true }).click()
  await imageOf(page, 'other.raw').waitFor({ state: 'detached' })
  t.same(wrong, [], 'nothing went wrong in the page')
})

t.test('failures are told in words, also on a phone in the dark; so are a domain that is lost, and one that hangs', async t => {
  const reader = domainProcess(agent.pid, 'hung')
  process.kill(reader, 'SIGSTOP')
  t.teardown(() => { process.kill(reader, 'SIGCONT') })
  const disk = await open(join(directory, 'images/disk.raw'), 'r+')
  t.teardown(async () => { await disk.close() })
  const { page, wrong } = await visit(t, { colorScheme: 'dark', width: 390 })
  await client.putTask('changed', copyTo('copy.raw', 2 * MiB))
  await until(async () => await page.evaluate('document.querySelector("[data-task=changed] progress")?.value > 0') === true, 'the copy to be under way')
  await disk.write(Buffer.alloc(1024, 8), 0, 1024, 0)
  await disk.sync()
  await client.tuneTask('changed', null)
  await client.putTask('absent', copyTo('never.raw', undefined, 'nosuch.raw')).catch(() => { /* refused, as it should be */ })
  await resultOf(page, 'absent').getByText('No such image.').waitFor()
  await resultOf(page, 'changed').getByText('The source has changed since the copy began.').waitFor()
  await resultOf(page, 'changed').getByText('failed', { exact: true }).waitFor()
  const far = page.locator('[data-domain=far]')
  await far.getByText('unavailable').waitFor()
  await page.locator('[data-domain=hung]').getByText('unresponsive').waitFor()
  t.equal(await page.getByText('There are no images in hung').count(), 0, 'nobody knows')
  await isAccessible(t, page, 'failed on a phone')
  t.equal(await page.evaluate('document.documentElement.scrollWidth <= innerWidth'), true, 'nothing sticks out')
  t.same(wrong, [])
})

t.test('a rebalance is told host by host, with the host that does not answer', async t => {
  const { page } = await visit(t)
  const row = page.locator('#gluster').getByRole('row', { name: 'missing' })
  await row.waitFor()
  t.match(await row.textContent(), /node2.*does not answer/s)
  t.match(await page.locator('#gluster').textContent(), /Without an answer: node2/)
  t.equal(await page.locator('#gluster').getByRole('row').count(), 4, 'a head, two hosts that answered, one that did not')
  await isAccessible(t, page, 'rebalance with a missing host')
})

t.test('what has not been read is not told to be empty', async t => {
  const page = await openPage(t)
  await page.route(/domains\/local\/images/, () => { /* never answered */ })
  await page.goto(agent.address)
  await page.getByRole('heading', { name: 'local' }).waitFor()
  await page.getByText('Not read yet.').first().waitFor()
  t.equal(await page.getByText('There are no images in local.').count(), 0)
})

t.test('an agent that stands still is told, although its stream is open', async t => {
  const { page } = await visit(t)
  await page.clock.install()
  process.kill(agent.pid, 'SIGSTOP')
  // asked for at the next look at least; the page's own clock makes that soon
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  await page.clock.fastForward(10_000)
  await page.getByText('The agent does not answer').first().waitFor()
  await isAccessible(t, page, 'silent')
  process.kill(agent.pid, 'SIGCONT')
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  await page.getByText('Live', { exact: true }).waitFor()
})

t.test('an EventSource of the browser itself sees every transition of a copy', async t => {
  const page = await openPage(t)
  await page.goto(agent.address)
  // text, for it runs in the browser: the types of this program are Node's
  await page.evaluate(`new Promise(synced => {
    const seen = []
    const source = new EventSource('/events?idPrefix=watched')
    source.addEventListener('synced', () => { seen.push('synced'); synced() })
    window.states = new Promise(resolve => {
      source.addEventListener('task', ({ data }) => {
        const { state } = JSON.parse(data)
        seen.push(state)
        if (state === 'succeeded') { source.close(); resolve(seen) }
      })
    })
  })`)
  await client.putTask('other', copyTo('unwatched.raw'))
  await client.putTask('watched', copyTo('watched.raw'))
  t.same(await page.evaluate('window.states'), ['synced', 'pending', 'running', 'succeeded'])
})

t.test('the reference shows every operation, under its own policy and without asking other hosts', async t => {
  const page = await openPage(t)
  const wrong: string[] = []
  page.on('request', request => { if (!request.url().startsWith(agent.address) && !request.url().startsWith('data:')) wrong.push(`asked ${request.url()}`) })
  page.on('response', response => { if (response.status() >= 400) wrong.push(`${response.status()} ${response.url()}`) })
  page.on('pageerror', error => { wrong.push(String(error)) })
  page.on('console', message => { if (message.type() === 'error') wrong.push(message.text()) })
  const reply = await page.goto(`${agent.address}/docs`)
  t.match(reply?.headers()['content-security-policy'], /default-src|script-src/)
  await page.getByText('Create a task, or claim the one that has this id').waitFor()
  const { paths } = await (await fetch(`${agent.address}/openapi.json`)).json() as { paths: Record<string, object> }
  const operations = Object.values(paths).flatMap(path => Object.keys(path)).length
  t.equal(await page.locator('.opblock').count(), operations, 'every operation of the document')
  // one is opened and asked: what it shows was made by the agent
  await page.locator('#operations-agent-getHealth').getByRole('button').first().click()
  await page.getByRole('button', { name: 'Try it out' }).click()
  await page.getByRole('button', { name: 'Execute' }).click()
  await page.getByText('"alive"').first().waitFor()
  t.same(wrong, [])
})

t.test('what is wrong with the image that is to be copied is told in the form', async t => {
  const at = (image: string) => join(directory, 'images', image)
  await sh('qemu-img', 'create', '-q', '-f', 'raw', at('base.raw'), '1M')
  for (const image of ['over.qcow2', 'torn.qcow2']) {
    const base = image === 'over.qcow2' ? 'base.raw' : 'gone.raw'
    await sh('qemu-img', 'create', '-q', '-u', '-f', 'qcow2', '-F', 'raw', '-b', base, at(image), '1M')
    await makeOld(at(image))
  }
  const { page } = await visit(t)
  await page.getByRole('button', { name: 'Copy local/over.qcow2' }).click()
  await page.getByText(/^base\.raw was written .* after over\.qcow2/).waitFor()
  await isAccessible(t, page, 'warned')
  await page.getByLabel('Image', { exact: true }).fill('torn.qcow2')
  await page.getByLabel('New image').focus()
  await page.getByText(/its backing file gone\.raw is missing/).waitFor()
  t.equal(await page.getByText(/was written/).count(), 0, 'of the other image nothing is told any more')
  await page.getByRole('button', { name: 'Copy local/disk.raw' }).click()
  await page.getByText(/gone\.raw is missing/).waitFor({ state: 'detached' })
})
