import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { AgentProcess } from '../../helpers/agent.ts'
import { compare, identical, makeDisk, MiB } from '../../helpers/images.ts'
import { fillQcow2, makeOvirtDomain, putVolume, readMeta, uuid } from '../../helpers/ovirt.ts'
import { until } from '../../helpers/processes.ts'

const mount = '/srv/data'
const [source, target] = [uuid('gluster source'), uuid('gluster target')]
const [image, base, top] = [uuid('gluster disk'), uuid('gluster base'), uuid('gluster top')]

/** As an agent is configured with them. */
export const ovirtPlaces = [source, target].map(id => ({ id, path: join(mount, id), layout: 'ovirt' as const }))

/**
 * Two oVirt domains on a GlusterFS volume: what one host was copying when it was killed, the other one continues, volume by
 * volume; volumes are made and deleted there as on any other file system.
 */
export async function ovirtDomains (t: Test, { one, two }: { one: AgentProcess, two: AgentProcess }): Promise<void> {
  const root = two.within(mount)
  for (const id of [source, target]) await makeOvirtDomain(root, id)
  const at = (domain: string, ...names: string[]) => join(root, domain, 'images', ...names)
  const fromPath = join(root, source)
  await putVolume(fromPath, source, image, base, async file => { await makeDisk(file, 8 * MiB, { blockBytes: MiB }) }, { CAP: 8 * MiB, VOLTYPE: 'INTERNAL' })
  await putVolume(fromPath, source, image, top, async file => { await fillQcow2(file, 8 * MiB, { volume: base, format: 'raw' }, [[0, MiB, 1], [2 * MiB, MiB, 0], [5 * MiB, 3 * MiB, 2]]) }, { CAP: 8 * MiB, FORMAT: 'COW', PUUID: base })
  for (const agent of [one, two]) {
    await until(async () => (await agent.request<{ state: string }>('GET', `/domains/${target}`)).body.state === 'available', 'the domain to be there')
  }

  const made = { domain: target, image: uuid('gluster made'), volume: uuid('gluster made volume') }
  t.match(await two.done('ovirt-create', { kind: 'storage.createImage', ...made, format: 'qcow2', virtualSize: MiB }), { state: 'succeeded' })
  t.equal((await stat(at(target, made.image, `${made.volume}.lease`))).size, MiB, 'its lease is one that sanlock takes')

  const keep = { kind: 'storage.copyImage', source: { domain: source, image }, target: { domain: target, image }, chain: 'keep', bandwidth: 2 * MiB }
  await one.accept('ovirt-chain', keep)
  await two.untilDone(target, image, MiB)
  await one.kill()
  await until(async () => (await two.image(target, image)).body.state === 'interrupted', 'the leases to be free')
  const [broken, ...others] = await two.fixes(target)
  t.same(others, [])
  t.match(broken, { image, volume: top, fixes: [{ action: 'mend' }, { action: 'clean' }] })
  const task = await two.done('ovirt-mend', { kind: 'storage.mendImage', domain: target, image, volume: top })
  t.match(task, { state: 'succeeded', result: { generation: 1 } }, JSON.stringify(task.error))
  for (const [volume, format] of [[base, 'raw'], [top, 'qcow2']] as const) {
    t.equal(await compare({ path: at(source, image, volume), format }, { path: at(target, image, volume), format }), identical)
    t.match(await readMeta(at(target, image, `${volume}.meta`)), { LEGALITY: 'LEGAL', GEN: '1' })
  }

  const flat = { domain: target, image: uuid('gluster flat'), volume: uuid('gluster flat volume') }
  t.match(await two.done('ovirt-flat', { kind: 'storage.copyImage', source: { domain: source, image }, target: { ...flat, format: 'raw' }, verify: true }), { state: 'succeeded', result: { verified: true } })
  t.same(await two.fixes(target), [])
  for (const { image } of [made, flat, { image: keep.target.image }]) t.match(await two.done(`ovirt-delete-${image}`, { kind: 'storage.deleteImage', domain: target, image }), { state: 'succeeded' })
  t.same(await readdir(at(target)), [])
}
