import { mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sha256 } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

/** VDSM_TASKS_SPACE_ROUNDS=10 is the long form. */
const rounds = Number(process.env['VDSM_TASKS_SPACE_ROUNDS'] ?? 3)

const top = await temporaryDirectory(t)
const small = join(top, 'small')
await mkdir(small)
await mkdir(join(top, 'large'))
const agent = await startAgent(t, {
  domains: [{ id: 'small', path: small, create: true }, { id: 'local', path: join(top, 'large'), create: true }],
  mounts: [{ path: small, bytes: 64 * MiB }],
  copy: { windowSeconds: 0.5 }
})
const at = (name: string) => agent.within(join(small, name))
const toSmall = (source: string, image: string, target: object = {}, more: object = {}) => copySpec(source, '', { target: { domain: 'small', image, ...target }, ...more })
// what is left: 24 MiB. Without it, there is room for everything
const ballast = async () => {
  // ext4 gives back what was deleted with the next commit of its journal
  await until(async () => await writeFile(at('.ballast'), Buffer.alloc(40 * MiB)).then(() => true, () => false), 'space for the ballast')
}
await ballast()
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

t.test('of three copies at once of which one fits, one succeeds and two are refused', async t => {
  for (let round = 1; round <= rounds; round++) {
    const names = ['a', 'b', 'c'].map(name => `${name}${round}.${round % 2 === 0 ? 'qcow2' : 'raw'}`)
    await Promise.all(names.map(async name => await agent.put(name, toSmall('fits.raw', name))))
    const ends = await Promise.all(names.map(async name => await agent.finished(name)))
    t.strictSame(ends.map(({ state }) => state).sort(), ['rejected', 'rejected', 'succeeded'], ends.map(({ error }) => error?.detail).join(' '))
    for (const { state, error } of ends) {
      if (state === 'rejected') t.match(error, { code: 'no-space', bytesFree: Number, bytesNeeded: Number, bytesReserved: Number })
    }
    const { bavail, blocks, bsize } = await statfs(at(''))
    t.ok(bavail * bsize >= blocks * bsize * 0.02, 'the reserve is left')
    const done = names[ends.findIndex(({ state }) => state === 'succeeded')] ?? ''
    t.match(await agent.done(`${done}-delete`, { ...deleteSpec(done), domain: 'small' }), { state: 'succeeded' })
  }
})

t.test('an image whose replacement is refused is still known as the copy that it is', async t => {
  await makeDisk(join(top, 'large', 'little.raw'), MiB)
  const spec = toSmall('little.raw', 'kept.raw')
  t.match(await agent.done('kept', spec), { state: 'succeeded' })
  const before = await agent.copies('small')
  t.match((await agent.refused('replace', toSmall('sparse.raw', 'kept.raw', { allocation: 'preallocated' }, { onExisting: 'replace', ignoreSpace: true }))).body, { code: 'no-space' })
  t.same(await agent.copies('small'), before)
  t.match(await agent.done('kept-again', spec), { state: 'succeeded', result: { alreadyDone: true } })
  t.match(await agent.done('kept-delete', { ...deleteSpec('kept.raw'), domain: 'small' }), { state: 'succeeded' })
})

t.test('a full storage fails the copy with its own code, keeps what is done, and a mend goes on when there is space', async t => {
  for (const target of ['torn.raw', 'torn.qcow2']) {
    await agent.accept(target, { ...toSmall('fits.raw', target) as object, bandwidth: stalled })
    const { copy } = await agent.untilDone('small', target, MiB)
    await writeFile(at('filler'), Buffer.alloc(40 * MiB)).catch((error: unknown) => { t.match(error, { code: 'ENOSPC' }) })
    await agent.request('PATCH', `/tasks/${target}`, { body: { bandwidth: null } })
    const { state, error } = await agent.finished(target)
    t.match([state, error], ['failed', { code: 'no-space', status: 507, bytesFree: Number, bytesNeeded: Number }], error?.detail ?? '')
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

t.test('a copy that looks too large can be told to try, and goes on when there is more space', async t => {
  const before = await readdir(at('.vdsm-tasks/parts'))
  t.match(await agent.request('PUT', '/tasks/any?dryRun=true', { body: toSmall('big.raw', 'tried.raw', {}, { ignoreSpace: true }) }), { status: 200, body: { plan: { outcome: 'copy', bytesFree: Number, bytesNeeded: Number } } })
  t.same(await readdir(at('.vdsm-tasks/parts')), before)
  const { state, error } = await agent.done('try', toSmall('big.raw', 'tried.raw', {}, { ignoreSpace: true, bandwidth: 16 * MiB }))
  t.match([state, error], ['failed', { code: 'no-space' }], error?.detail ?? '')
  const { bytesFree, bytesNeeded } = error as { bytesFree?: number, bytesNeeded?: number }
  t.ok(Number(bytesFree) < Number(bytesNeeded), `${bytesFree} free, ${bytesNeeded} needed`)
  const { body } = await agent.image('small', 'tried.raw')
  t.match(body, { state: 'interrupted' })
  t.ok(Number(body.copy?.bytesDone) > 0, 'what did fit is kept')
  await rm(at('.ballast'))
  t.match(await agent.done('tried-mend', mendSpec('tried.raw', { domain: 'small' })), { state: 'succeeded', result: { epoch: 2 } })
  t.equal(await sha256(at('tried.raw')), await sha256(join(top, 'large', 'big.raw')))
  t.match(await agent.done('tried-delete', { ...deleteSpec('tried.raw'), domain: 'small' }), { state: 'succeeded' })
  await ballast()

  // written zeros take up space in the source, and none in the copy
  await writeFile(join(top, 'large', 'zeros.raw'), Buffer.alloc(40 * MiB))
  await makeOld(join(top, 'large', 'zeros.raw'))
  t.match((await agent.refused('zeros', toSmall('zeros.raw', 'zeros.raw'))).body, { code: 'no-space', detail: /ignoreSpace/ })
  t.match(await agent.done('zeros', toSmall('zeros.raw', 'zeros.raw', {}, { ignoreSpace: true })), { state: 'succeeded' })
  t.match(await agent.done('zeros-delete', { ...deleteSpec('zeros.raw'), domain: 'small' }), { state: 'succeeded' })
})

t.test('an unfinished copy can be deleted from a storage that is full to the last byte', async t => {
  await agent.accept('stuck', { ...toSmall('fits.raw', 'stuck.raw') as object, bandwidth: stalled })
  await agent.untilDone('small', 'stuck.raw', MiB)
  // more than there is room for: it fails, and leaves none
  await writeFile(at('filler'), Buffer.alloc(40 * MiB)).catch(() => {})
  await agent.request('PATCH', '/tasks/stuck', { body: { bandwidth: null } })
  await agent.finished('stuck')
  t.match(await agent.done('unstick', { ...deleteSpec('stuck.raw'), domain: 'small' }), { state: 'succeeded' })
  t.same((await readdir(at(''))).sort(), ['.ballast', '.vdsm-tasks', 'filler'])
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same(await readdir(at('.vdsm-tasks/copies')), [])
})
