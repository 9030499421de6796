import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(120_000)

t.test('a copy is offered to be continued while its source, in another domain, is there and as it was', async t => {
  const [local, other] = [await temporaryDirectory(t), await temporaryDirectory(t)]
  const domains = [{ id: 'local', path: local, create: true }, { id: 'other', path: other, create: true }]
  let agent = await startAgent(t, { domains })
  const source = join(other, 'source.raw')
  await until(async () => (await agent.request<{ state: string }>('GET', '/domains/other')).body.state === 'available')
  await makeDisk(source, 8 * MiB)
  await agent.accept('copy', { ...copySpec('source.raw', 'copy.raw', { bandwidth: stalled }), source: { domain: 'other', image: 'source.raw' } })
  await agent.untilDone('local', 'copy.raw', MiB)
  await agent.kill()
  agent = await startAgent(t, { domains })
  const offered = async () => {
    const [broken] = await agent.fixes('local')
    return { actions: broken?.fixes.map(({ action }) => action), detail: broken?.detail }
  }
  const becomes = async (actions: string[], detail: RegExp) => {
    const now = await until(async () => { const now = await offered(); return now.actions?.length === actions.length && now })
    t.match(now, { actions, detail })
    // what is told is up to a second old
    const body = await until(async () => { const { body } = await agent.image('local', 'copy.raw'); return body.fixes.length === actions.length && body })
    t.match(body, { state: 'interrupted', detail, fixes: actions.map(action => ({ action })) }, 'the image says the same')
  }
  await becomes(['mend', 'clean'], /was interrupted \(last checkpoint \S+\)\.$/)
  await rename(source, `${source}.away`)
  await becomes(['clean'], /The copy cannot be continued: its source is gone \(source\.raw in domain other\)\.$/)
  await rename(`${source}.away`, source)
  await becomes(['mend', 'clean'], /was interrupted/)
  await writeFile(source, 'changed', { flag: 'r+' })
  await becomes(['clean'], /its source in domain other has changed since it began \(modified of source\.raw\)\.$/)

  await agent.kill()
  agent = await startAgent(t, { domains: domains.slice(0, 1) })
  await becomes(['mend', 'clean'], /was interrupted/)
})
