import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { TaskSpec } from '../../src/api/kinds.ts'
import { startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, KiB, makeDisk, MiB } from '../helpers/images.ts'
import { makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { commandLine, until } from '../helpers/processes.ts'
import { leaseOf, lockspaceOf, makeLockspace, ownerOf, SanlockHost } from '../helpers/sanlock.ts'
import { seeded } from '../helpers/seeded.ts'

// Two hosts with leases of sanlock work on the same volumes, and agents, workers and lockspaces go at random instants.

const kills = Number(process.env['TORTURE_KILLS'] ?? 40)
const seed = Number(process.env['TORTURE_SEED'] ?? randomBytes(4).readUInt32LE())
t.setTimeout(300_000 + kills * 30_000)
t.comment(`TORTURE_SEED=${seed}`)
const random = seeded(seed)
const pick = <T> (list: readonly T[]): T => list[Math.floor(random() * list.length)] as T

const ioSeconds = 2
const root = await temporaryDirectory(t)
const domain = uuid('sanlock domain')
const path = await makeOvirtDomain(root, domain)
await makeLockspace(path, domain, ioSeconds)
const local = join(root, 'local')

interface Member { host: SanlockHost, hostId: number, agent: AgentProcess }
const start = async (host: SanlockHost) => await startAgent(t, {
  hostId: host.name,
  domains: [{ id: 'local', path: local, create: true }, { id: domain, path, layout: 'ovirt', leases: 'sanlock' }],
  copy: { windowSeconds: 0.5, parallelWindows: pick([1, 2, 3]) },
  under: host.enter
})
const members = await Promise.all(['one', 'two'].map(async (name, index): Promise<Member> => {
  const host = await SanlockHost.make(t, name)
  await host.join(path, domain, index + 1, ioSeconds)
  return { host, hostId: index + 1, agent: await start(host) }
}))
await makeDisk(join(local, 'source.raw'), 20 * MiB, { blockBytes: 1500 * KiB })

const targets = (['raw', 'raw', 'qcow2', 'qcow2'] as const).map((format, index) => ({ domain, image: uuid(`image ${index >> 1}`), volume: uuid(`volume ${index}`), format }))
type Target = typeof targets[number]
const isWhole = async ({ image, volume, format }: Target) => await compare({ path: join(local, 'source.raw'), format: 'raw' }, { path: join(path, 'images', image, volume), format }) === identical
const counts = new Map<string, number>()
const count = (what: string) => { counts.set(what, (counts.get(what) ?? 0) + 1) }
const copy = (target: Target): TaskSpec => ({ kind: 'storage.copyImage', source: { domain: 'local', image: 'source.raw' }, target, ...(random() < 0.7 && { bandwidth: pick([6, 12]) * MiB }) })

const stateOf = async ({ agent }: Member, { image, volume }: Target) => {
  const { status, body } = await agent.image(domain, image)
  return status === 404 ? undefined : body.volumes?.find(found => found.volume === volume)
}

/** Sends what is to be done with a target next, to any host. What is running there is left to run, or refused. */
async function send (member: Member, target: Target, id: string): Promise<void> {
  const found = await stateOf(member, target)
  if (found?.state === 'ok') t.ok(await isWhole(target), `${target.volume} is ok: it is whole`)
  count(found?.state ?? 'absent')
  const remove: TaskSpec = { kind: 'storage.deleteImage', domain, image: target.image, volume: target.volume }
  const spec = found === undefined ? copy(target) : found.state === 'ok' ? remove : pick(found.fixes)?.task ?? copy(target)
  const { status, body } = await member.agent.put(id, spec, { prefer: random() < 0.5 ? 'respond-async' : 'wait=60' })
  count(status === 202 ? spec.kind : `${(body as unknown as { code: string }).code}`)
  // two hosts are at the same volumes, and see each other's changes a moment later
  t.ok(status === 202 || [404, 409].includes(status), `${spec.kind}: ${JSON.stringify(body).slice(0, 400)}`)
}

t.test('whatever goes, a volume is absent, explained, or whole, and one host at most has it', async t => {
  for (let kill = 0; kill < kills; kill++) {
    await Promise.all(targets.filter(() => random() < 0.7).map(async (target, index) => { await send(pick(members), target, `${kill}-${index}`) }))
    await sleep(random() ** 2 * 1500)
    const member = pick(members)
    const { host, agent, hostId } = member
    switch (pick(['agent', 'agent', 'workers', 'lockspace'])) {
      case 'agent':
        await agent.kill()
        member.agent = await start(host)
        break
      case 'workers':
        for (const pid of agent.children('storage/copy/main')) process.kill(pid, 'SIGKILL')
        break
      case 'lockspace':
        // fails where the host is not in it at this moment
        await host.client('rem_lockspace', '-s', lockspaceOf(path, domain, hostId)).catch(() => {})
        // one that only looks whether a source is in use has nowhere to write to
        t.same(agent.children('qemu-img convert').map(commandLine).filter(words => words !== '' && !words.includes('null-co')), [], 'without its leases a host writes nothing')
        await until(async () => await host.join(path, domain, hostId, ioSeconds).then(() => true, () => false), 'the lockspace to be joined again')
        await until(async () => (await agent.request<{ leases: { state: string } }>('GET', `/domains/${domain}`)).body.leases.state === 'ready')
    }
  }
  t.comment(JSON.stringify(Object.fromEntries([...counts].sort())))
})

t.test('in the end everything can be mended, and nobody has anything', async t => {
  const [member] = members as [Member, ...Member[]]
  for (const target of targets) {
    for (let round = 0; ; round++) {
      const found = await until(async () => {
        const found = await stateOf(member, target)
        return found?.state !== 'copying' && { found }
      })
      if (found.found?.state === 'ok') break
      const { status, body } = await member.agent.put(`end-${target.volume}-${round}`, found.found?.fixes[0]?.task ?? copy(target))
      if (status === 409) continue
      if (status !== 202) throw new Error(JSON.stringify(body))
      await member.agent.finished(`end-${target.volume}-${round}`)
    }
    t.ok(await isWhole(target), target.volume)
    t.equal(await ownerOf(leaseOf(path, domain, target.image, target.volume)), 0)
  }
  t.same(await member.agent.fixes(domain), [])
  t.same(await readdir(join(path, '.vdsm-tasks/parts')), [])
  for (const name of await readdir(join(path, '.vdsm-tasks/copies'))) {
    t.match(JSON.parse(await readFile(join(path, '.vdsm-tasks/copies', name), 'utf8')), { phase: 'done' }, name)
  }
})
