import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Readiness } from '../../src/api/agent.ts'
import type { DomainStatus } from '../../src/api/domain.ts'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh, sha256 } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(180_000)

/** A directory that is mounted at two places, each of which has locks of its own. */
async function mountTwice (t: Test) {
  const top = await temporaryDirectory(t)
  const [below, one, other] = ['below', 'one', 'other'].map(name => join(top, name)) as [string, string, string]
  for (const path of [below, one, other]) await mkdir(path)
  const space = await MountSpace.make(t)
  for (const path of [one, other]) await space.mountFuse(path, 'bindfs', '-f', '--multithreaded', below, path)
  const start = async (hostId: string, path: string): Promise<AgentProcess> => await startAgent(t, {
    hostId, domains: [{ id: 'shared', path, create: true }], copy: { windowSeconds: 0.5 }, under: space.enter
  })
  return { below, one, other, start }
}

const statusOf = async (agent: AgentProcess): Promise<DomainStatus> => (await agent.request<DomainStatus>('GET', '/domains/shared')).body
const inShared = (spec: object): object => JSON.parse(JSON.stringify(spec).replaceAll('"local"', '"shared"'))
const hostFiles = async (domain: string): Promise<string[]> => await readdir(join(domain, '.vdsm-tasks/hosts'))
const untilLocks = async (agent: AgentProcess, state: string) => await until(async () => {
  const status = await statusOf(agent)
  return status.locks?.state === state && status
}, `locks to be ${state}`)

t.test('of two hosts whose locks do not reach each other, the second is refused, and the first one stops', { skip: unlessRoot }, async t => {
  const { start, below, one, other } = await mountTwice(t)
  const first = await start('first', one)
  t.match((await untilLocks(first, 'alone')), { state: 'available', locks: { agents: 0 } }, 'alone, it waits for nothing')
  await makeDisk(join(below, 'source.raw'), 24 * MiB)
  for (const target of ['copy.qcow2', 'copy.raw']) await first.accept(target, inShared(copySpec('source.raw', target, { bandwidth: stalled })))

  const second = await start('second', other)
  const began = performance.now()
  // at once: whether locks work is not known yet
  const replies = await Promise.all([
    inShared(mendSpec('copy.qcow2')), inShared(copySpec('source.raw', 'other.raw')), inShared(deleteSpec('copy.raw')),
    { kind: 'storage.createImage', domain: 'shared', image: 'new.raw', virtualSize: MiB }
  ].map(async (spec, index) => await second.refused(`early-${index}`, spec)))
  t.comment(`refused after ${Math.round(performance.now() - began)} ms`)
  for (const { status, body, headers } of replies) {
    t.match({ status, body, headers }, { status: 503, body: { code: 'locks-broken', detail: /host first.*bindfs/s }, headers: { 'retry-after': /^\d+$/ } })
  }
  t.match(await statusOf(second), {
    state: 'unavailable', code: 'locks-broken', detail: /Locks do not work/, bytesTotal: Number, locks: { state: 'broken', agents: 1, problems: [{ code: 'locks-broken' }] }
  })
  t.match((await second.request<Readiness>('GET', '/readyz')), { status: 503, body: { ready: false, domains: [{ state: 'unavailable', code: 'locks-broken' }] } })

  for (const target of ['copy.qcow2', 'copy.raw']) {
    t.match(await first.finished(target), { state: 'failed', error: { code: 'locks-broken', detail: /host second/ } })
    t.match((await first.image('shared', target)).body, { state: 'interrupted', copy: { host: { id: 'first' }, epoch: 1 } })
    t.equal((await first.image('shared', target)).body.copy?.canceledAt, undefined, 'nobody has canceled it')
  }
  t.match(await first.refused('more', inShared(mendSpec('copy.qcow2'))), { status: 503, body: { code: 'locks-broken' } })
  t.match(await second.fixes('shared'), [{ image: 'copy.qcow2' }, { image: 'copy.raw' }], 'images can still be read')
  t.match(first.log, /Locks do not work/)

  await second.kill()
  // the process is known to have ended: nothing it held can be written any more
  t.equal((await untilLocks(first, 'alone')).code, undefined)
  for (const target of ['copy.qcow2', 'copy.raw']) {
    t.match(await first.done(`mend-${target}`, inShared(mendSpec(target))), { state: 'succeeded' })
  }
  t.equal(await sha256(join(below, 'copy.raw')), await sha256(join(below, 'source.raw')))
  t.equal((await hostFiles(below)).length, 1)
})

t.test('an agent does not hold on to a file system that was unmounted lazily', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  const [disk, at] = ['disk', 'mounted'].map(name => join(top, name)) as [string, string]
  await mkdir(at)
  const space = await MountSpace.make(t)
  await space.mountFile(disk, 64 * MiB, ['mkfs.ext4', '-q'], at)
  const agent = await startAgent(t, { domains: [{ id: 'shared', path: at, create: true }], under: space.enter })
  await untilLocks(agent, 'alone')
  const domain = space.path(at)
  await until(async () => (await hostFiles(domain)).length === 1, 'the host file')
  t.not(await sh('losetup', '-j', disk), '', 'the device is in use')

  await space.run('umount', '--lazy', at)
  await until(async () => await sh('losetup', '-j', disk) === '', 'the device to be free')
  t.match((await statusOf(agent)), { state: 'unavailable', code: 'domain-unavailable' })

  await space.run('mount', '-o', 'loop', disk, at)
  await until(async () => (await statusOf(agent)).state === 'available', 'the domain to be back')
  // the file that was left is removed in time, because nobody writes into it
  await until(async () => (await hostFiles(domain)).length >= 2, 'a new host file')
  await untilLocks(agent, 'alone')
})
