import { randomBytes } from 'node:crypto'
import { open, readFile, stat } from 'node:fs/promises'
import type { Test } from 'tap'
import { copySpec, mendSpec, type AgentProcess } from '../../helpers/agent.ts'
import { compare, identical, makeDisk, MiB, sha256 } from '../../helpers/images.ts'
import { descendants, until, untilGone } from '../../helpers/processes.ts'
import type { Cluster } from './cluster.ts'
import { ovirtPlaces } from './ovirt-domain.ts'

/** The targets of every test here. */
export const targets = ['copy.raw', 'copy.qcow2'] as const
export const diskBytes = 48 * MiB
/** Two of the raw target, whose windows are copied side by side, and one of the qcow2 target. */
const writersInFlight = 3
/** Where the volume is mounted with strict locks, on hosts 1 and 2, and without, on host 2. */
const strictMount = '/srv/data'
const laxMount = '/srv/lax'
const path = `${strictMount}/local`

/** A domain on a GlusterFS volume, as hosts 1 and 2 see it. */
export interface SharedDomain {
  start (host: 1 | 2): Promise<AgentProcess>
  /** Where host 2 has an image, for everybody. */
  file (two: AgentProcess, image: string): string
}

/** Makes the volume, on bricks of hosts 2 and 3: cutting off host 1 takes no brick along. It holds the disk `source.raw`. */
export async function shareDomain (cluster: Cluster): Promise<SharedDomain> {
  const volume = async (...words: string[]): Promise<void> => { await cluster.gluster(3, 'volume', ...words) }
  const run = async (host: number, script: string): Promise<void> => {
    const { code, stderr } = await cluster.exec(host, 'sh', '-ec', script)
    if (code !== 0) throw new Error(stderr)
  }
  const mount = async (host: number, at: string): Promise<void> => { await run(host, `mkdir ${at}; mount -t glusterfs node3:/dom ${at}`) }
  await volume('create', 'dom', 'node2:/srv/1/dom', 'node3:/srv/1/dom')
  // both sides notice a cut within seconds, where by default it takes them forty
  for (const [option, value] of [['network.ping-timeout', '3'], ['server.tcp-user-timeout', '3'], ['server.keepalive-time', '1'], ['server.keepalive-interval', '1'], ['server.keepalive-count', '2']] as const) {
    await volume('set', 'dom', option, value)
  }
  await volume('start', 'dom')
  await mount(2, laxMount)
  await volume('set', 'dom', 'client.strict-locks', 'on')
  await Promise.all([1, 2].map(async host => { await mount(host, strictMount) }))

  const local = { id: 'local', path, create: true }
  const lax = { id: 'lax', path: `${laxMount}/lax`, create: true }
  const file: SharedDomain['file'] = (two, image) => two.within(`${path}/${image}`)
  return {
    async start (host) {
      // a window of 2 MiB/s is several of the requests that qemu-img makes: it waits in the middle of it
      const { http } = await cluster.agent(host, { domains: [local, ...host === 2 ? [lax] : [], ...ovirtPlaces], copy: { windowSeconds: 6, parallelWindows: 2 } })
      if (await stat(file(http, 'source.raw')).catch(() => undefined) === undefined) await makeDisk(file(http, 'source.raw'), diskBytes)
      return http
    },
    file
  }
}

/** Waits until nobody has the lease of a copy; how much of it is durable. */
export async function interrupted (agent: AgentProcess, image: string): Promise<number> {
  return await until(async () => {
    const { body } = await agent.image('local', image)
    return body.state === 'interrupted' && body.copy?.bytesDone
  }, `the lease of ${image} to be free`)
}

export async function isCopied (t: Test, two: AgentProcess, { file }: SharedDomain, image: string): Promise<void> {
  t.equal(await compare({ path: file(two, 'source.raw'), format: 'raw' }, { path: file(two, image), format: image.endsWith('.raw') ? 'raw' : 'qcow2' }), identical, image)
}

function signalAll (pids: readonly number[], signal: 'SIGSTOP' | 'SIGCONT'): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal)
    } catch (error) {
      // it has ended in the meantime
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
    }
  }
}

/**
 * Stops every process of an agent in the middle of a window of each copy: what a paused machine does. No qemu-img is
 * among them that has not opened its target yet: nothing holds that back when it goes on, which the README says.
 */
async function freeze (agent: AgentProcess): Promise<void> {
  const inFlight = async (): Promise<boolean> => {
    const writers = agent.children('qemu-img convert')
    return writers.length >= writersInFlight && (await Promise.all(writers.map(hasBegun))).every(Boolean)
  }
  await until(async () => {
    if (!await inFlight()) return false
    signalAll(descendants(agent.pid), 'SIGSTOP')
    // one may have ended or begun before the signal came
    if (await inFlight()) return true
    thaw(agent)
    return false
  }, 'a window of each copy to be in flight')
}

/** Whether a qemu-img has read some of its window: its target is open and locked before that. Its own files and libraries are less. */
async function hasBegun (pid: number): Promise<boolean> {
  const io = await readFile(`/proc/${pid}/io`, 'utf8').catch(() => '')
  return Number(/^rchar: (\d+)$/m.exec(io)?.[1]) >= MiB
}

function thaw (agent: AgentProcess, pids = descendants(agent.pid)): void {
  signalAll(pids, 'SIGCONT')
}

/** Lets a frozen agent go on: what is writing comes first, before anybody can find out that it must not. */
async function wake (agent: AgentProcess): Promise<void> {
  const writers = agent.children('qemu-img convert')
  thaw(agent, writers)
  await untilGone(...writers)
  thaw(agent)
}

/** Everything but the header, so that it still is an image: what a guest has written since. */
async function overwrite (path: string): Promise<void> {
  const image = await open(path, 'r+')
  try {
    await image.write(randomBytes((await image.stat()).size - MiB), 0, null, MiB)
    await image.sync()
  } finally {
    await image.close()
  }
}

/**
 * Cuts host 1 off while it copies, lets host 2 finish the copies and a guest write to them, and lets host 1 come back:
 * frozen in between, it goes on where it was; otherwise it finds out while it is alone.
 */
export async function cutOff (t: Test, cluster: Cluster, domain: SharedDomain, { one, two, frozen }: { one: AgentProcess, two: AgentProcess, frozen: boolean }): Promise<void> {
  const images = targets.map(target => `${frozen ? 'frozen' : 'cut'}-${target}`)
  const sums = async (): Promise<string[]> => await Promise.all(images.map(async image => await sha256(domain.file(two, image))))
  await Promise.all(images.map(async image => {
    await one.accept(image, copySpec('source.raw', image, { bandwidth: 2 * MiB }))
    await two.untilDone('local', image, MiB)
  }))
  if (frozen) await freeze(one)
  await cluster.exec(1, 'ip', 'link', 'set', 'eth0', 'down')
  for (const image of images) {
    await interrupted(two, image)
    t.match(await two.done(`mend-${image}`, mendSpec(image)), { state: 'succeeded', result: { epoch: 2 } })
    await isCopied(t, two, domain, image)
    await overwrite(domain.file(two, image))
  }
  const before = await sums()

  await cluster.exec(1, 'ip', 'link', 'set', 'eth0', 'up')
  await until(async () => (await cluster.exec(1, 'stat', `${path}/source.raw`)).code === 0, 'host 1 to have its file system back')
  if (frozen) await wake(one)
  for (const image of images) {
    const { state, error } = await one.finished(image)
    t.equal(state, 'failed')
    t.match(error?.code, frozen ? 'lease-lost' : /^(lease-lost|storage-failed|copy-failed)$/)
    t.comment(error?.detail)
  }
  t.same(one.children('qemu-img'), [])
  t.same(await sums(), before, 'nothing more was written')
  for (const image of images) {
    await until(async () => (await one.image('local', image)).body.copy?.phase === 'done', 'host 1 to see what the other has done')
    t.match((await one.image('local', image)).body, { state: 'ok', copy: { host: { id: 'host2' }, epoch: 2 } })
  }
  t.same(await two.fixes('local'), [])
}
