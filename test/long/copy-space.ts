import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'

t.setTimeout(300_000)

const top = await temporaryDirectory(t)
const small = join(top, 'small')
await mkdir(small)
await mkdir(join(top, 'large'))
const agent = await startAgent(t, {
  domains: [{ id: 'small', path: small, create: true }, { id: 'local', path: join(top, 'large'), create: true }],
  mounts: [{ path: small, bytes: 24 * MiB }],
  copy: { windowSeconds: 0.5 }
})
const at = (name: string) => agent.within(join(small, name))
const toSmall = (source: string, image: string, more: object = {}) => copySpec(source, '', { target: { domain: 'small', image, ...more } })
await makeDisk(join(top, 'large', 'big.raw'), 40 * MiB, { blockBytes: 40 * MiB })
await makeDisk(join(top, 'large', 'fits.raw'), 16 * MiB, { blockBytes: 16 * MiB })
await makeDisk(join(top, 'large', 'sparse.raw'), 200 * MiB, { blockBytes: MiB / 8 })

t.test('what cannot fit is refused before anything is written', async t => {
  const before = (await listing(at(''))).filter(line => !line.startsWith('.vdsm-tasks/leases'))
  for (const [id, spec] of [
    ['data', toSmall('big.raw', 'new.raw')],
    ['qcow2', toSmall('big.raw', 'new.qcow2')],
    ['reserved', toSmall('sparse.raw', 'new.raw', { allocation: 'preallocated' })]
  ] as const) {
    const { status, body } = await agent.refused(id, spec)
    t.match([status, body.code], [507, 'no-space'], body.detail)
    t.match(body, { bytesFree: Number, bytesNeeded: Number })
  }
  t.same((await listing(at(''))).filter(line => !line.startsWith('.vdsm-tasks/leases')), before)
  const { status, body } = await agent.refused('create', { kind: 'storage.createImage', domain: 'small', image: 'new.raw', virtualSize: 40 * MiB, allocation: 'preallocated' })
  t.match([status, body.code], [507, 'no-space'], body.detail)
  t.same((await readdir(at(''))).filter(name => !name.startsWith('.')), [])
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same(await readdir(at('.vdsm-tasks/copies')), [])
})

t.test('a full storage fails the copy with its own code, keeps what is done, and a mend goes on when there is space', async t => {
  for (const target of ['torn.raw', 'torn.qcow2']) {
    await agent.accept(target, { ...toSmall('fits.raw', target) as object, bandwidth: stalled })
    const { copy } = await agent.untilDone('small', target, MiB)
    await writeFile(at('filler'), Buffer.alloc(40 * MiB)).catch((error: unknown) => { t.match(error, { code: 'ENOSPC' }) })
    await agent.request('PATCH', `/tasks/${target}`, { body: { bandwidth: null } })
    t.match(await agent.finished(target), { state: 'failed', error: { code: 'no-space', status: 507 } })
    const { body } = await agent.image('small', target)
    t.match(body, { state: 'interrupted', fixes: [{ action: 'mend' }, { action: 'clean' }] })
    const before = body.copy?.bytesDone ?? 0
    t.ok(before >= (copy?.bytesDone ?? Infinity))
    t.match((await agent.refused(`${target}-full`, mendSpec(target, { domain: 'small' }))).body, { code: 'no-space' }, 'still full')
    t.match((await agent.image('small', target)).body, { state: 'interrupted', copy: { bytesDone: before } })
    await rm(at('filler'))
    t.match(await agent.done(`${target}-mend`, mendSpec(target, { domain: 'small' })), { state: 'succeeded', result: { bytesCopied: 16 * MiB - before } })
    await agent.done(`${target}-back`, copySpec('', `${target}-back.raw`, { source: { domain: 'small', image: target } }))
    t.equal(await sha256(join(top, 'large', `${target}-back.raw`)), await sha256(join(top, 'large', 'fits.raw')))
    t.match(await agent.done(`${target}-delete`, { ...deleteSpec(target), domain: 'small' }), { state: 'succeeded' })
  }
})

t.test('an unfinished copy can be deleted from a storage that is full to the last byte', async t => {
  await agent.accept('stuck', { ...toSmall('fits.raw', 'stuck.raw') as object, bandwidth: stalled })
  await agent.untilDone('small', 'stuck.raw', MiB)
  await writeFile(at('filler'), Buffer.alloc(40 * MiB)).catch(() => {})
  await agent.request('PATCH', '/tasks/stuck', { body: { bandwidth: null } })
  await agent.finished('stuck')
  t.match(await agent.done('unstick', { ...deleteSpec('stuck.raw'), domain: 'small' }), { state: 'succeeded' })
  t.same((await readdir(at(''))).sort(), ['.vdsm-tasks', 'filler'])
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same(await readdir(at('.vdsm-tasks/copies')), [])
})
