import t, { type Test } from 'tap'
import type { DomainStatus } from '../../src/api/domain.ts'
import { startCluster, type Cluster } from '../gluster/cluster/cluster.ts'
import { copySpec, mendSpec, stalled, type AgentProcess } from '../helpers/agent.ts'
import { compare, identical, makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { descendants, until } from '../helpers/processes.ts'

t.setTimeout(180_000)

const size = 24 * MiB
const mounted = '/srv/data'
const path = `${mounted}/local`
const formats = { 'copy.raw': 'raw', 'copy.qcow2': 'qcow2' } as const

/** A domain of two hosts on a volume whose bricks are on the others, so that a cut takes no brick along. */
async function makeDomain (cluster: Cluster): Promise<void> {
  const volume = async (...words: string[]): Promise<void> => { await cluster.gluster(3, 'volume', ...words) }
  const mount = async (host: number, at: string): Promise<void> => {
    const { code, stderr } = await cluster.exec(host, 'sh', '-ec', `mkdir ${at}; mount -t glusterfs node3:/dom ${at}`)
    if (code !== 0) throw new Error(stderr)
  }
  await volume('create', 'dom', 'node2:/srv/1/dom', 'node3:/srv/1/dom')
  // both sides notice a cut within seconds, where by default it takes them forty
  for (const [option, value] of [['network.ping-timeout', '3'], ['server.tcp-user-timeout', '3'], ['server.keepalive-time', '1'], ['server.keepalive-interval', '1'], ['server.keepalive-count', '2']] as const) {
    await volume('set', 'dom', option, value)
  }
  await volume('start', 'dom')
  await mount(2, '/srv/lax')
  await volume('set', 'dom', 'client.strict-locks', 'on')
  await mount(1, mounted)
  await mount(2, mounted)
}

/** Stops every process of an agent, or lets them go on: what a paused machine does. */
function signalAll (agent: AgentProcess, signal: 'SIGSTOP' | 'SIGCONT'): void {
  for (const pid of descendants(agent.pid)) process.kill(pid, signal)
}

t.test('hosts that share a GlusterFS volume', { skip: unlessRoot }, async t => {
  const cluster = await startCluster(t)
  await makeDomain(cluster)
  const start = async (host: number, more: Array<{ id: string, path: string, create: boolean }> = []): Promise<AgentProcess> =>
    (await cluster.agent(host, { domains: [{ id: 'local', path, create: true }, ...more], copy: { windowSeconds: 0.5 } })).http
  let one = await start(1)
  const two = await start(2, [{ id: 'lax', path: '/srv/lax/lax', create: true }])
  const seenBy = (agent: AgentProcess, image: string): string => agent.within(`${path}/${image}`)
  const isIdentical = async (t: Test, image: keyof typeof formats, prefix = ''): Promise<void> => {
    t.equal(await compare({ path: seenBy(two, 'source.raw'), format: 'raw' }, { path: seenBy(two, prefix + image), format: formats[image] }), identical)
  }
  const interrupted = async (image: string): Promise<number> => await until(async () => {
    const { body } = await two.image('local', image)
    return body.state === 'interrupted' && body.copy?.bytesDone
  }, `the lease of ${image} to be free`)
  await makeDisk(seenBy(one, 'source.raw'), size)

  t.test('a mount without strict locks is warned of, in the status and in the log', async t => {
    t.match((await two.request<DomainStatus>('GET', '/domains/lax')).body, { state: 'available', local: false, warnings: [/client\.strict-locks on/] })
    t.equal((await two.request<DomainStatus>('GET', '/domains/local')).body.warnings, undefined)
    await until(() => two.log.includes('client.strict-locks'), 'the warning in the log')
    t.notMatch(one.log, /strict-locks/)
  })

  for (const image of ['copy.raw', 'copy.qcow2'] as const) {
    t.test(`what a host that was killed was copying to ${image}, another one continues`, async t => {
      await one.accept(image, copySpec('source.raw', image, { bandwidth: stalled }))
      t.match(await two.untilDone('local', image, MiB), { state: 'copying', copy: { host: { id: 'host1' }, taskId: image, epoch: 1 }, fixes: [] })
      t.match(await two.refused('early', mendSpec(image)), { status: 409, body: { code: 'resource-busy', host: { id: 'host1' } } })
      await one.kill()
      const done = await interrupted(image)
      t.ok(done >= MiB)
      t.match(await two.done(`mend-${image}`, mendSpec(image)), { state: 'succeeded', result: { bytesCopied: size - done, epoch: 2 } })
      await isIdentical(t, image)
      one = await start(1)
      t.match((await one.image('local', image)).body, { state: 'ok', copy: { host: { id: 'host2' }, phase: 'done' } })
    })
  }

  for (const frozen of [false, true]) {
    t.test(`a host that was cut off${frozen ? ' and stood still' : ''} writes nothing more when it comes back`, async t => {
      const prefix = frozen ? 'frozen-' : 'cut-'
      const images = (['copy.raw', 'copy.qcow2'] as const)
      await Promise.all(images.map(async image => {
        await one.accept(prefix + image, copySpec('source.raw', prefix + image, { bandwidth: 2 * MiB }))
        await two.untilDone('local', prefix + image, 3 * MiB)
      }))
      if (frozen) signalAll(one, 'SIGSTOP')
      await cluster.exec(1, 'ip', 'link', 'set', 'eth0', 'down')
      for (const image of images) {
        await interrupted(prefix + image)
        t.match(await two.done(`mend-${prefix}${image}`, mendSpec(prefix + image)), { state: 'succeeded', result: { epoch: 2 } })
        await isIdentical(t, image, prefix)
      }
      const sums = await Promise.all(images.map(async image => await sha256(seenBy(two, prefix + image))))

      await cluster.exec(1, 'ip', 'link', 'set', 'eth0', 'up')
      await until(async () => (await cluster.exec(1, 'stat', `${path}/source.raw`)).code === 0, 'host 1 to have its file system back')
      if (frozen) signalAll(one, 'SIGCONT')
      for (const image of images) {
        const { state, error } = await one.finished(prefix + image)
        t.comment(image, error)
        t.equal(state, 'failed')
        t.match(error?.code, /^(lease-lost|storage-failed|copy-failed)$/)
      }
      t.same(one.children('qemu-img'), [])
      t.same(await Promise.all(images.map(async image => await sha256(seenBy(two, prefix + image)))), sums)
      for (const image of images) {
        await isIdentical(t, image, prefix)
        await until(async () => (await one.image('local', prefix + image)).body.state === 'ok', 'host 1 to see what the other has done')
        t.match((await one.image('local', prefix + image)).body, { copy: { host: { id: 'host2' }, epoch: 2, phase: 'done' } })
      }
      t.same(await two.fixes('local'), [])
    })
  }
})
