import type { Page } from 'playwright-core'
import t from 'tap'
import type { Task } from '../../src/api/task.ts'
import { Client } from '../../src/client/client.ts'
import { openPage } from '../helpers/browser.ts'
import { freePort, makeDirectory, startAgent, type BuiltAgent } from '../helpers/built-agent.ts'

/** What an EventSource in the browser has seen, in order: opened connections, resets, and transitions. */
type Seen = Array<{ event: string, id: string, task?: Pick<Task, 'id' | 'instance' | 'state' | 'revision'>, reason?: string }>

async function listen (page: Page): Promise<void> {
  await page.evaluate(() => {
    const seen: object[] = []
    const source = new EventSource('/events?type=task')
    Object.assign(globalThis, { seen, source })
    source.addEventListener('open', () => { seen.push({ event: 'open' }) })
    for (const event of ['task', 'reset', 'synced', 'bye']) {
      source.addEventListener(event, message => {
        const { data, lastEventId } = message as MessageEvent
        const { id, instance, state, revision, reason } = JSON.parse(data)
        seen.push({ event, id: lastEventId, ...event === 'task' && { task: { id, instance, state, revision } }, reason })
      })
    }
  })
}

async function seenBy (page: Page): Promise<Seen> {
  return await page.evaluate(() => (globalThis as unknown as { seen: Seen }).seen)
}

/** Resolves when the browser has seen this task end. */
async function sees (page: Page, id: string, instance: string): Promise<void> {
  await page.waitForFunction(([id, instance]) => (globalThis as unknown as { seen: Seen }).seen.some(({ task }) => task !== undefined && task.id === id && task.instance === instance && task.state === 'succeeded'), [id, instance])
}

/** Does a task that takes no time. */
async function work ({ address }: BuiltAgent, ids: readonly string[]): Promise<string> {
  const client = new Client({ url: address })
  try {
    for (const id of ids) {
      await client.putTask(id, { kind: 'storage.createImage', domain: 'local', image: `${id}.raw`, virtualSize: 1024 * 1024 })
      await client.waitForTask(id)
    }
    return (await client.agent()).instance
  } finally {
    await client.close()
  }
}

t.test('Chromium\'s EventSource follows through a kill and a stop of the agent, and is told each time that it begins anew', async t => {
  const directory = await makeDirectory(t)
  const config = { listen: { port: await freePort() }, domains: [{ id: 'local', path: './images', create: true }] }
  let agent = await startAgent(t, directory, config)
  const page = await openPage(t)
  await page.goto(agent.address)
  const instances = [await work(agent, ['a'])]
  await listen(page)
  await sees(page, 'a', instances[0] ?? '')
  await work(agent, ['b', 'c'])
  await sees(page, 'c', instances[0] ?? '')
  for (const [end, ids] of [['kill', ['d', 'e']], ['stop', ['f', 'g']]] as const) {
    await agent[end]()
    agent = await startAgent(t, directory, config)
    // one of them perhaps before the browser is back, one after it
    const instance = await work(agent, ids.slice(0, 1))
    instances.push(instance)
    await sees(page, ids[0], instance)
    await work(agent, ids.slice(1))
    await sees(page, ids[1], instance)
  }
  const seen = await seenBy(page)
  t.same(seen.filter(({ event }) => event !== 'task' && event !== 'open').map(({ event, reason }) => reason ?? event), ['synced', 'instance-changed', 'synced', 'stopping', 'instance-changed', 'synced'])
  for (const [n, ids] of [['a', 'b', 'c'], ['d', 'e'], ['f', 'g']].entries()) {
    for (const id of ids) {
      const revisions = seen.filter(({ task }) => task?.id === id && task.instance === instances[n]).map(({ task }) => task?.revision)
      // in a snapshot a task begins as it is; from then on nothing is left out or repeated
      t.same(revisions, Array.from({ length: revisions.length }, (_, n) => 3 - revisions.length + n), `revisions of ${id}`)
      t.ok(revisions.length > 0)
    }
  }
  t.same(seen.filter(({ task }) => task?.id === 'b' || task?.id === 'c').length, 6, 'what happened while it was there was seen step by step')
})
