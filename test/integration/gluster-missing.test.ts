import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { HttpClient } from '../helpers/http-client.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'

t.setTimeout(180_000)

const rebalance = { kind: 'gluster.startVolumeRebalance', volume: 'images' }

/** An agent that finds its programs in these directories, with a disk to copy. */
async function startWithPath (path: string): Promise<{ agent: AgentProcess, domain: string }> {
  const domain = await temporaryDirectory(t)
  const agent = await startAgent(t, { domains: [{ id: 'local', path: domain, create: true }], under: ['env', `PATH=${path}`] })
  await makeDisk(join(domain, 'source.raw'), 4 * MiB)
  return { agent, domain }
}

t.test('without the gluster command there is 503, and everything else', async t => {
  // it is installed in sbin
  const { agent, domain } = await startWithPath('/usr/bin:/bin')
  for (const path of ['/gluster/operations', '/gluster/volumes']) t.match(await agent.request('GET', path), { status: 503, body: { code: 'gluster-unavailable', detail: /not installed/ } })
  t.match(await agent.refused('rebalance', rebalance), { status: 503, body: { code: 'gluster-unavailable' } })
  t.match(await agent.request('GET', '/readyz'), { status: 200, body: { ready: true, gluster: { available: false, code: 'gluster-unavailable' } } })
  t.match(await agent.done('copy', copySpec('source.raw', 'copy.raw')), { state: 'succeeded' })
  t.equal(await sha256(join(domain, 'copy.raw')), await sha256(join(domain, 'source.raw')))
})

t.test('a gluster command that hangs for ever is answered in time, costs few processes, and disturbs nobody', async t => {
  const programs = await temporaryDirectory(t)
  const calls = join(programs, 'calls')
  await writeFile(join(programs, 'gluster'), `#!/bin/sh\necho "$*" >> ${calls}\nexec sleep 100000\n`)
  await chmod(join(programs, 'gluster'), 0o755)
  const { agent } = await startWithPath(`${programs}:/usr/bin:/bin`)

  // with a connection for each: nobody waits for another one's answer
  const client = new HttpClient({ socketPath: agent.socketPath })
  t.teardown(() => { client.close() })
  const reads = Array.from({ length: 300 }, async (_, index) => await client.get(index % 3 === 0 ? '/gluster/volumes' : '/gluster/operations'))
  const start = agent.refused('rebalance', rebalance)
  t.match(await agent.done('copy', copySpec('source.raw', 'copy.qcow2', { verify: true })), { state: 'succeeded' })
  t.match(await agent.request('GET', '/domains'), { status: 200 })
  t.match(await agent.request('GET', '/readyz'), { status: 200, body: { ready: true, gluster: { available: false, code: 'gluster-unresponsive' } } })
  t.equal((await agent.task('rebalance')).state, 'pending', 'all that was quicker than the command')

  t.match(await start, { status: 504, body: { code: 'gluster-unresponsive' } })
  const answers = await Promise.all(reads)
  t.same([...new Set(answers.map(({ status, problem }) => `${status} ${problem.code}`))], ['504 gluster-unresponsive'])
  const asked = (await readFile(calls, 'utf8')).trim().split('\n')
  t.ok(asked.length <= 6, 'the poller, both reads, the probe and the start', { asked })
  t.same(agent.children('sleep 100000'), [], 'none is left')
})
