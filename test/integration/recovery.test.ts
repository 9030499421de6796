import { join } from 'node:path'
import t from 'tap'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

/** A domain with copies that a killed host has left: one canceled, one not. */
async function abandon (t: Parameters<typeof startAgent>[0]) {
  const path = await temporaryDirectory(t)
  const domains = [{ id: 'local', path, create: true }]
  const agent = await startAgent(t, { domains, hostId: 'node1' })
  await makeDisk(join(path, 'source.raw'), 16 * MiB)
  for (const target of ['unwanted.raw', 'left.raw']) {
    await agent.accept(target, copySpec('source.raw', target, { bandwidth: stalled }))
    await agent.untilDone('local', target, MiB)
  }
  await agent.request('DELETE', '/tasks/unwanted.raw')
  await agent.finished('unwanted.raw')
  await agent.kill()
  return { path, domains }
}

for (const [recovery, hostId] of [['own', 'node1'], ['any', 'node2']] as const) {
  t.test(`with the policy ${recovery}, ${hostId} continues what a killed node1 has left, and nobody had to ask`, async t => {
    const { path, domains } = await abandon(t)
    const agent = await startAgent(t, { domains, hostId, recovery })
    const task = await until(async () => {
      const { status, body } = await agent.request<{ state: string }>('GET', '/tasks/recover.local.left.raw')
      return status === 200 && body
    })
    t.match(task, { kind: 'storage.mendImage' })
    // the record keeps the bandwidth that the copy was given
    await agent.request('PATCH', '/tasks/recover.local.left.raw', { body: { bandwidth: null } })
    const ended = await agent.finished('recover.local.left.raw')
    t.match(ended, { state: 'succeeded', result: { epoch: 2 } }, ended.error?.detail ?? 'it goes on to its end')
    t.equal(await sha256(join(path, 'left.raw')), await sha256(join(path, 'source.raw')))
    t.match((await agent.image('local', 'unwanted.raw')).body, { state: 'interrupted', copy: { canceledAt: String } }, 'who canceled a copy did not want it')
  })
}

for (const [recovery, hostId] of [['manual', 'node1'], ['own', 'node2']] as const) {
  t.test(`with the policy ${recovery}, ${hostId} leaves it alone`, async t => {
    const { domains } = await abandon(t)
    const agent = await startAgent(t, { domains, hostId, recovery })
    await until(async () => (await agent.image('local', 'left.raw')).body.state === 'interrupted')
    t.match((await agent.request('GET', '/tasks')).body, { items: Empty })
  })
}
