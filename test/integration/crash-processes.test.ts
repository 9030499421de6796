import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import type { Problem } from '../../src/api/problem.ts'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { descendants, domainProcess, isAlive, until, untilGone } from '../helpers/processes.ts'

t.setTimeout(300_000)

const top = await temporaryDirectory(t)
for (const name of ['first', 'second']) await mkdir(join(top, name))
const agent = await startAgent(t, { domains: [{ id: 'local', path: join(top, 'first'), create: true }, { id: 'second', path: join(top, 'second'), create: true }] })
const at = (name: string) => join(top, 'first', name)
await makeDisk(at('source.raw'), 8 * MiB)
const domain = async (id: string) => (await agent.request<DomainStatus>('GET', `/domains/${id}`)).body
await until(async () => (await domain('second')).state === 'available')

t.test('a domain process that dies is started again, and a copy does not notice', async t => {
  await agent.accept('beside', copySpec('source.raw', 'beside.raw', { bandwidth: stalled }))
  for (let round = 0; round < 2; round++) {
    const before = agent.children('storage/domain/main.js')
    t.equal(before.length, 2)
    for (const pid of before) process.kill(pid, 'SIGKILL')
    await untilGone(...before)
    await until(async () => (await domain('local')).state === 'available' && (await domain('second')).state === 'available')
    t.same(agent.children('storage/domain/main.js').filter(pid => before.includes(pid)), [])
    t.equal((await agent.image('local', 'source.raw')).status, 200)
  }
  await agent.request('PATCH', '/tasks/beside', { body: { bandwidth: null } })
  t.match(await agent.finished('beside'), { state: 'succeeded' })
})

t.test('a storage that does not answer is told in time, disturbs nobody else, and goes on by itself', async t => {
  await agent.accept('copying', copySpec('source.raw', 'copying.raw', { bandwidth: stalled }))
  const pids = agent.children('storage/domain/main.js')
  const pid = domainProcess(agent.pid, 'second')
  process.kill(pid, 'SIGSTOP')
  t.teardown(() => { if (isAlive(pid)) process.kill(pid, 'SIGCONT') })
  const slow = ['images/source.raw', 'images', 'copies', 'fixes'].map(async path => await agent.request<Problem>('GET', `/domains/second/${path}`))
  // while those wait, everything else is answered
  for (const path of ['/tasks', '/tasks/copying', '/healthz', '/agent', '/domains/local', '/domains/local/images/source.raw', '/domains/local/fixes']) {
    t.equal((await agent.request('GET', path)).status, 200, path)
  }
  t.match(await agent.done('meanwhile', copySpec('source.raw', 'meanwhile.raw')), { state: 'succeeded' })
  for (const { status, body } of await Promise.all(slow)) t.match([status, body.code], [504, 'storage-unresponsive'], body.detail)
  t.match(await domain('second'), { state: 'unresponsive' })
  t.match(await agent.request('GET', '/domains/second/images/source.raw'), { status: 504 }, 'with so many waiting, at once')
  const create = await agent.refused('create', { kind: 'storage.createImage', domain: 'second', image: 'new.raw', virtualSize: 512 })
  t.match([create.status, create.body.code], [504, 'storage-unresponsive'], 'refused, and nothing was changed')
  t.same(agent.children('storage/domain/main.js').sort(), pids.sort(), 'none is killed for being slow, and no second one is started')

  process.kill(pid, 'SIGCONT')
  await until(async () => (await domain('second')).state === 'available')
  t.equal((await agent.request('GET', '/domains/second/images')).status, 200)
  t.match((await agent.request('GET', '/domains/second/images/new.raw')).status, 404)
  await agent.request('PATCH', '/tasks/copying', { body: { bandwidth: null } })
  t.match(await agent.finished('copying'), { state: 'succeeded' })
  t.equal(await sha256(at('copying.raw')), await sha256(at('source.raw')))
})

t.test('a storage that does not answer does not keep the agent from stopping', async t => {
  const below = descendants(agent.pid)
  for (const pid of agent.children('storage/domain/main.js')) process.kill(pid, 'SIGSTOP')
  t.equal(await agent.stop(), 0)
  await untilGone(...below)
})
