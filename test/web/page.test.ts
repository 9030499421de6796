import t from 'tap'
import { Client } from '../../src/client/client.ts'
import type { TaskSpec } from '../../src/client/types.ts'
import { openPage } from '../helpers/browser.ts'
import { freePort, makeDirectory, startAgent } from '../helpers/built-agent.ts'

t.setTimeout(300_000)

const copyTo = (image: string, bandwidth?: number): TaskSpec => ({
  kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image }, ...(bandwidth !== undefined && { bandwidth })
})

t.test('the page follows a copy to its end, and goes on by itself after the agent was killed and started again', async t => {
  const directory = await makeDirectory(t)
  const config = { listen: { port: await freePort() } }
  const first = await startAgent(t, directory, config)
  const client = new Client({ url: first.address })
  t.teardown(async () => { await client.close() })
  const page = await openPage(t)
  const wrong: string[] = []
  page.on('pageerror', error => { wrong.push(String(error)) })
  page.on('console', message => { if (message.text().includes('Content Security Policy')) wrong.push(message.text()) })

  await page.goto(first.address)
  await page.getByText('live', { exact: true }).waitFor()
  await page.getByText('No tasks').waitFor()
  await client.putTask('copy', copyTo('copy.qcow2'))
  const row = page.getByRole('row', { name: 'copy' })
  await row.getByRole('cell', { name: 'succeeded' }).waitFor()
  t.equal(await row.getByRole('progressbar').getAttribute('value'), String(256 * 1024 * 1024), 'the bar is full')

  await client.putTask('slow', copyTo('slow.raw', 1024 * 1024))
  await page.getByRole('row', { name: 'slow' }).getByRole('cell', { name: 'running' }).waitFor()
  await first.kill()
  await page.getByText('the stream is broken').waitFor()
  await startAgent(t, directory, config)
  await page.getByText('The agent was restarted and has forgotten its tasks').waitFor()
  await page.getByText('live', { exact: true }).waitFor()
  t.equal(await page.getByRole('row', { name: 'slow' }).count(), 0, 'forgotten tasks are gone from the page')

  await client.putTask('go-on', { kind: 'storage.mendImage', domain: 'local', image: 'slow.raw' })
  await page.getByRole('row', { name: 'go-on' }).getByRole('cell', { name: 'succeeded' }).waitFor()
  t.same(wrong, [], 'nothing went wrong in the page')
})

t.test('an EventSource of the browser itself sees every transition of a copy', async t => {
  const agent = await startAgent(t, await makeDirectory(t))
  const client = new Client({ url: agent.address })
  t.teardown(async () => { await client.close() })
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
  await client.putTask('other', copyTo('other.raw'))
  await client.putTask('watched', copyTo('watched.raw'))
  t.same(await page.evaluate('window.states'), ['synced', 'pending', 'running', 'succeeded'])
})

t.test('the reference shows every operation without asking other hosts', async t => {
  const agent = await startAgent(t, await makeDirectory(t))
  const page = await openPage(t)
  const foreign: string[] = []
  page.on('request', request => { if (!request.url().startsWith(agent.address) && !request.url().startsWith('data:')) foreign.push(request.url()) })
  await page.goto(`${agent.address}/docs`)
  await page.getByText('Create a task, or claim the one that has this id').waitFor()
  await page.getByText('Follow everything that happens').waitFor()
  t.same(foreign, [])
})
