import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB } from '../helpers/images.ts'
import { domainMetadata, makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(120_000)

t.test('domains are found, attached and detached without a restart', async t => {
  const root = await temporaryDirectory(t)
  const [first, second, third] = ['one', 'two', 'three'].map(uuid) as [string, string, string]
  await makeOvirtDomain(root, first)
  // neither is a domain: another name, and no metadata
  await mkdir(join(root, 'lost+found'))
  await mkdir(join(root, uuid('nothing')))
  const local = { id: 'local', path: join(await temporaryDirectory(t), 'local'), create: true }
  const agent = await startAgent(t, { domains: [local], discover: [root], copy: { clone: false } })
  const { pid } = agent
  const all = async () => (await agent.request<{ items: DomainStatus[] }>('GET', '/domains')).body.items
  const untilThere = async (...ids: string[]) => await until(async () => {
    const found = await all()
    return found.length === ids.length && ids.every(id => found.some(({ domain, state }) => domain === id && state !== 'unresponsive' && (state === 'available' || id === third))) && found
  }, `the domains ${ids.join()}`)
  t.match((await untilThere('local', first)).find(({ domain }) => domain === first), { layout: 'ovirt', path: join(root, first), state: 'available', bytesTotal: Number, bytesFree: Number })
  t.same((await readdir(join(root, first))).sort(), ['.vdsm-tasks', 'dom_md', 'images'])

  await makeOvirtDomain(root, second)
  await makeOvirtDomain(root, third)
  await writeFile(join(root, third, 'dom_md/metadata'), domainMetadata(third).replace('CLASS=Data', 'CLASS=Iso'))
  const more = { id: 'more', path: join(await temporaryDirectory(t), 'more'), create: true }
  await agent.reconfigure({ domains: [local, more] })
  const found = await untilThere('local', 'more', first, second, third)
  t.match(found.find(({ domain }) => domain === third), { state: 'unavailable', detail: /dom_md\/metadata.*_SHA_CKSUM/ }, 'one that is damaged is shown, with what is wrong')

  // a domain with a running copy stays until that has ended
  await makeDisk(join(local.path, 'source.raw'), 8 * MiB)
  await agent.accept('running', copySpec('source.raw', 'copy.raw', { bandwidth: stalled }))
  await rm(join(root, second), { recursive: true })
  await agent.reconfigure({ domains: [more] })
  await untilThere('local', 'more', first, third)
  t.match((await all()).find(({ domain }) => domain === 'local'), { leaving: true, state: 'available' })
  t.match(await agent.refused('late', copySpec('source.raw', 'late.raw')), { status: 503, body: { code: 'domain-unavailable' } })
  t.match(await agent.task('running'), { state: 'running' })
  await agent.request('DELETE', '/tasks/running')
  t.match(await agent.finished('running'), { state: 'canceled' })
  await untilThere('more', first, third)

  await agent.reconfigure({ domains: [more, local] })
  await untilThere('local', 'more', first, third)
  t.match((await agent.fixes('local')), [{ image: 'copy.raw', state: 'interrupted' }], 'and comes back as it was')
  await agent.reconfigure(undefined)
  t.equal((await all()).length, 4, 'a configuration with a mistake changes nothing')
  t.equal(agent.pid, pid)
  t.equal(await agent.stop(), 0)
})
