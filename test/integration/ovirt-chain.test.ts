import { link, mkdir, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { SpaceLedger } from '../../src/storage/space-ledger.ts'
import { copyInWorker } from '../../src/storage/copying.ts'
import { total } from '../../src/storage/ranges.ts'
import { Workers } from '../../src/storage/workers.ts'
import { startAgent } from '../helpers/agent.ts'
import { recordIn } from '../helpers/done-ranges.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { until } from '../helpers/processes.ts'
import { copyJob } from '../helpers/storage-jobs.ts'
import { compare, identical, makeDisk, makeOld, MiB, sh, sha256 } from '../helpers/images.ts'
import { accessOf, fillQcow2, makeOvirtDomain, noParent, putVolume, readMeta, uuid, type MetaValues } from '../helpers/ovirt.ts'

// Chains that are kept: every volume copied by itself, from one oVirt domain to another.

t.setTimeout(180_000)
const root = await temporaryDirectory(t)
const [one, two] = [uuid('domain one'), uuid('domain two')]
const [path, otherPath] = await Promise.all([makeOvirtDomain(root, one), makeOvirtDomain(root, two)])
const from = (image: string, ...rest: string[]) => join(path, 'images', image, ...rest)
const to = (image: string, ...rest: string[]) => join(otherPath, 'images', image, ...rest)
const domains = [{ id: one, path, layout: 'ovirt' as const }, { id: two, path: otherPath, layout: 'ovirt' as const }]
const options = { domains, copy: { clone: false, windowSeconds: 0.5, parallelWindows: 1 } }
const agent = await startAgent(t, options)

const keep = (image: string, more: object = {}, target: object = {}) => ({ kind: 'storage.copyImage', source: { domain: one, image }, target: { domain: two, image, ...target }, chain: 'keep', ...more })

interface Chain { image: string, volumes: Array<{ volume: string, format: 'raw' | 'qcow2' }> }

/** Three volumes with data in each, holes in it, and zeros that hide what is below. */
async function putChain (name: string, { base = 'qcow2', sizes = [8 * MiB, 8 * MiB, 12 * MiB] }: { base?: 'raw' | 'qcow2', sizes?: number[] } = {}): Promise<Chain> {
  const image = uuid(name)
  const [bottom, middle, top] = ['base', 'middle', 'top'].map(layer => uuid(`${name} ${layer}`)) as [string, string, string]
  const [small = 0, larger = 0, largest = 0] = sizes
  const meta = (size: number, more: MetaValues) => ({ CAP: size, SEQ: 3, ...more })
  await putVolume(path, one, image, bottom, async file => {
    if (base === 'raw') return await makeDisk(file, small, { blockBytes: MiB })
    await makeDisk(`${file}.raw`, small, { blockBytes: MiB })
    await sh('qemu-img', 'convert', '-O', 'qcow2', '-c', `${file}.raw`, file)
    await rm(`${file}.raw`)
  }, meta(small, { FORMAT: base === 'raw' ? 'RAW' : 'COW', VOLTYPE: 'INTERNAL', SEQ: 1 }))
  await putVolume(path, one, image, middle, async file => {
    await fillQcow2(file, larger, { volume: bottom, format: base }, [[0, 65536, 1], [3 * MiB, 2 * MiB, 2], [MiB, 65536, 0]])
    // known to be zero, where the base has data
    await sh('qemu-io', '-f', 'qcow2', '-c', `write -z ${2 * MiB} 131072`, file)
  }, meta(larger, { FORMAT: 'COW', PUUID: bottom, VOLTYPE: 'INTERNAL', SEQ: 2 }))
  await putVolume(path, one, image, top, async file => { await fillQcow2(file, largest, { volume: middle, format: 'qcow2' }, [[65536, 65536, 3], [3 * MiB + 65536, 131072, 0], [largest - 2 * MiB, 2 * MiB, 4]]) }, meta(largest, { FORMAT: 'COW', PUUID: middle }))
  return { image, volumes: [{ volume: bottom, format: base }, { volume: middle, format: 'qcow2' }, { volume: top, format: 'qcow2' }] }
}

const topOf = ({ volumes }: Chain) => volumes.at(-1)?.volume ?? ''

/** Every volume has the same content over its parents, the same data of its own, and says the same of itself. */
async function isKept (t: Test, { image, volumes }: Chain, generation = '1'): Promise<void> {
  for (const [index, { volume, format }] of volumes.entries()) {
    t.equal(await compare({ path: from(image, volume), format }, { path: to(image, volume), format }), identical, `volume ${index}`)
    t.equal(await sha256(to(image, volume)), await sha256(from(image, volume)), 'its own data, the name and format of its parent')
    const { CTIME: _, DOMAIN: __, GEN: ___, ...was } = await readMeta(from(image, `${volume}.meta`))
    t.match(await readMeta(to(image, `${volume}.meta`)), { ...was, DOMAIN: two, GEN: generation, LEGALITY: 'LEGAL' })
    if (generation === '1') t.equal(await accessOf(to(image, volume)), `${process.getuid?.() === 0 ? '36:36' : `${process.getuid?.()}:${process.getgid?.()}`} 660`)
    if (format === 'raw') continue
    const info = JSON.parse(await sh('qemu-img', 'info', '--output=json', to(image, volume))) as Record<string, unknown>
    t.equal(info['backing-filename'], volumes[index - 1]?.volume)
    t.equal(info['backing-filename-format'], volumes[index - 1]?.format)
  }
  t.same((await readdir(to(image))).sort(), volumes.flatMap(({ volume }) => [volume, `${volume}.lease`, `${volume}.meta`]).sort(), 'and no file of ours')
  t.match((await agent.image(two, image)).body, { state: 'ok', fixes: Empty, volumes: volumes.map(({ volume }) => ({ volume, state: 'ok' })) })
}

const forget = async (image: string) => { await agent.done(`delete-${image}-${Math.random()}`, { kind: 'storage.deleteImage', domain: two, image }) }

for (const base of ['qcow2', 'raw'] as const) {
  t.test(`a chain over a ${base} base is kept, and the same content as one volume`, async t => {
    const chain = await putChain(`disk ${base}`, { base })
    const { image } = chain
    const bytesTotal = (await Promise.all(chain.volumes.map(async ({ volume }) => (await stat(from(image, volume))).size))).reduce((a, b) => a + b)
    t.match((await agent.request('PUT', `/tasks/preview-${base}?dryRun=true`, { body: keep(image) })).body, { plan: { outcome: 'copy', bytesTotal, bytesNeeded: Number } })
    t.notOk((await readdir(join(otherPath, 'images'))).includes(image), 'a look changes nothing')
    const task = await agent.done(`keep-${base}`, keep(image, { verify: true }))
    t.match(task, { state: 'succeeded', progress: { bytesTotal, bytesDone: bytesTotal }, result: { domain: two, image, volume: topOf(chain), generation: 1, verified: true, bytesTotal, bytesCopied: bytesTotal } }, JSON.stringify(task.error))
    await isKept(t, chain)
    t.match(await agent.copies(two).then(copies => copies.filter(copy => copy.image === image)), [{ volume: topOf(chain), state: 'done', copy: { taskId: `keep-${base}`, bytesTotal, bytesDone: bytesTotal } }], 'one copy, not three')
    t.match(await agent.done(`keep-${base}-again`, keep(image, { verify: true })), { state: 'succeeded', result: { alreadyDone: true, bytesMoved: 0 } })
    t.match(await agent.refused(`keep-${base}-flat`, keep(image, { chain: 'flat', verify: true }, { volume: topOf(chain) })), { status: 409, body: { code: 'target-exists', differs: ['chain'] } })

    const flat = { image: uuid(`flat ${base}`), volume: uuid(`flat ${base} volume`) }
    t.match(await agent.done(`flat-${base}`, { kind: 'storage.copyImage', source: { domain: one, image }, target: { domain: two, ...flat } }), { state: 'succeeded' })
    t.equal(await compare({ path: from(image, topOf(chain)), format: 'qcow2' }, { path: to(flat.image, flat.volume), format: 'qcow2' }), identical)
    await forget(image)
    t.match(await agent.image(two, image), { status: 404 })
  })
}

t.test('SIGKILL in every volume: another host goes on in that volume', async t => {
  const chain = await putChain('killed')
  const { image, volumes } = chain
  let spec: object = keep(image, { bandwidth: 2 * MiB })
  for (const [index, { volume }] of volumes.entries()) {
    const host = await startAgent(t, { ...options, hostId: `host${index}` })
    await host.accept('killed', spec)
    if (index === 0) {
      for (const { volume } of volumes) t.match(await readMeta(to(image, `${volume}.meta`)), { LEGALITY: 'ILLEGAL', GEN: '0' }, 'all of it is there, and ILLEGAL, before anything is written')
    }
    const done = await until(async () => total((await recordIn(otherPath, `${image}.${volume}`)).done) || false, `a window of volume ${index}`)
    await host.kill()
    t.ok(done > 0)
    const [broken, ...others] = await agent.fixes(two)
    t.same(others, [], 'one interrupted copy')
    t.match(broken, { image, volume: topOf(chain), state: 'interrupted', fixes: [{ action: 'mend' }, { action: 'clean' }] })
    t.match((await agent.image(two, image)).body, { state: 'interrupted', copy: { phase: 'copying', taskId: 'killed' } })
    for (const [at, { volume: other }] of volumes.entries()) {
      if (at > index) t.match(await readMeta(to(image, `${other}.meta`)), { LEGALITY: 'ILLEGAL' })
    }
    t.match(await agent.refused(`killed-source-${index}`, { kind: 'storage.copyImage', source: { domain: two, image }, target: { domain: one, image: uuid('never'), volume: uuid('never') } }), { status: 409, body: { code: 'image-interrupted' } })
    spec = { ...broken?.fixes[0]?.task, bandwidth: 2 * MiB }
  }
  const task = await agent.done('mended', { kind: 'storage.mendImage', domain: two, image, volume: topOf(chain) })
  t.match(task, { state: 'succeeded' }, JSON.stringify(task.error))
  await isKept(t, chain)
  t.same(await agent.fixes(two), [])
  await forget(image)
})

/** Two images that are based on one template, of which each has hard links beside it. */
async function putTemplate (name: string): Promise<{ template: string, base: string, disks: Chain[] }> {
  const [template, base] = [uuid(`${name} template`), uuid(`${name} template base`)]
  await putVolume(path, one, template, base, async file => { await makeDisk(file, 4 * MiB, { blockBytes: MiB }) }, { CAP: 4 * MiB, VOLTYPE: 'SHARED' })
  const disks: Chain[] = []
  for (const which of ['first', 'second']) {
    const [image, leaf] = [uuid(`${name} ${which}`), uuid(`${name} ${which} leaf`)]
    await mkdir(from(image))
    for (const suffix of ['', '.meta', '.lease']) await link(from(template, `${base}${suffix}`), from(image, `${base}${suffix}`))
    await putVolume(path, one, image, leaf, async file => { await fillQcow2(file, 4 * MiB, { volume: base, format: 'raw' }, [[which === 'first' ? 0 : MiB, 65536, 9]]) }, { CAP: 4 * MiB, FORMAT: 'COW', PUUID: base })
    disks.push({ image, volumes: [{ volume: base, format: 'raw' }, { volume: leaf, format: 'qcow2' }] })
  }
  return { template, base, disks }
}

t.test('a template is copied once, as an image of its own, and linked beside each image that is based on it', async t => {
  const { template, base, disks: [first, second] } = await putTemplate('shared')
  if (first === undefined || second === undefined) throw new Error('no disks')
  t.match(await agent.done('shared-first', keep(first.image)), { state: 'succeeded' })
  const { ino } = await stat(to(template, base))
  t.equal((await stat(to(first.image, base))).ino, ino)
  t.match(await readMeta(to(template, `${base}.meta`)), { IMAGE: template, VOLTYPE: 'SHARED', LEGALITY: 'LEGAL', GEN: '1' })
  t.match(await readMeta(to(first.image, `${base}.meta`)), { IMAGE: template }, 'as vdsm shares it')
  const { mtimeMs } = await stat(to(template, base))
  const task = await agent.done('shared-second', keep(second.image, { verify: true }))
  t.match(task, { state: 'succeeded', result: { bytesTotal: (await stat(from(second.image, topOf(second)))).size, verified: true } }, JSON.stringify(task.error))
  for (const disk of [first, second]) {
    t.equal(await compare({ path: from(disk.image, topOf(disk)), format: 'qcow2' }, { path: to(disk.image, topOf(disk)), format: 'qcow2' }), identical)
    t.equal((await stat(to(disk.image, base))).ino, ino)
  }
  t.equal((await stat(to(template, base))).mtimeMs, mtimeMs, 'not copied again')
  t.match(await agent.refused('shared-delete', { kind: 'storage.deleteImage', domain: two, image: template }), { status: 409, body: { code: 'has-children' } })
  t.match(await agent.done('shared-first-again', keep(first.image)), { state: 'succeeded', result: { alreadyDone: true } }, 'that the template has another link says nothing about its content')
  t.same(await agent.fixes(two), [])

  // what only looks like the template is not taken for it
  await forget(second.image)
  const file = to(template, `${base}.meta`)
  const good = await readFile(file, 'utf8')
  for (const [what, bad] of [['smaller', good.replace('CAP=4194304', 'CAP=4190208')], ['ILLEGAL', good.replace('=LEGAL', '=ILLEGAL')], ['another format', good.replace('=RAW', '=COW')]] as const) {
    await writeFile(file, bad)
    const before = await listing(otherPath)
    t.match(await agent.refused(`shared-${what.replace(' ', '-')}`, keep(second.image)), { status: 409, body: { code: 'target-exists' } }, what)
    t.same((await listing(otherPath)).filter(line => !line.includes('leases')), before.filter(line => !line.includes('leases')), 'nothing was changed')
  }
  await writeFile(file, good)
  await makeDisk(to(template, base), 4 * MiB)
  t.match(await agent.refused('shared-written', keep(second.image)), { status: 409, body: { code: 'target-exists', differs: ['the target was written after the copy'] } })
  for (const image of [first.image, template]) await forget(image)
})

t.test('a volume that only says that it is a template\'s makes nothing in the image that it names', async t => {
  const { template, base, disks: [disk] } = await putTemplate('lying')
  if (disk === undefined) throw new Error('no disk')
  await putVolume(otherPath, two, template, uuid('somebody else'), async file => { await makeDisk(file, MiB) })
  const before = await listing(to(template))
  t.match(await agent.refused('lying-target', keep(disk.image)), { status: 409, body: { code: 'target-exists', detail: /has other volumes/ } })
  await rm(from(disk.image, base))
  await makeDisk(from(disk.image, base), 4 * MiB)
  t.match(await agent.refused('lying-source', keep(disk.image)), { status: 422, body: { code: 'image-invalid', detail: /no hard link/ } })
  t.same(await listing(to(template)), before)
  await forget(template)
})

t.test('a base that was there is compared, too, if that is asked for', async t => {
  const { template, base, disks: [disk] } = await putTemplate('other')
  if (disk === undefined) throw new Error('no disk')
  await putVolume(otherPath, two, template, base, async file => { await makeDisk(file, 4 * MiB, { blockBytes: MiB }) }, { CAP: 4 * MiB, VOLTYPE: 'SHARED' })
  const task = await agent.done('other', keep(disk.image, { verify: true }))
  t.match(task, { state: 'failed', error: { code: 'verification-failed', detail: /was there before/ } })
  t.match(await agent.fixes(two), [{ image: disk.image, volume: topOf(disk), state: 'interrupted' }])
  await agent.done('other-clean', { kind: 'storage.deleteImage', domain: two, image: disk.image, volume: topOf(disk) })
  t.same(await agent.fixes(two), [])
  // a base of the right size that nobody has written to, as the engine makes it, is not the base
  await rm(to(template, base))
  await writeFile(to(template, base), '')
  await truncate(to(template, base), 4 * MiB)
  t.match(await agent.refused('empty', keep(disk.image)), { status: 409, body: { code: 'target-exists' } })
  await forget(template)
})

t.test('with every volume of a chain that is looked at and made, the storage shows that it answers', async t => {
  const { image } = await putChain('long')
  const { job } = copyJob(domains, { what: 'copy', source: { domain: one, image }, target: { domain: two, image, allocation: 'sparse' }, chain: 'keep', verify: false, onExisting: 'refuse', ignoreSpace: false })
  // the next one, which stands ready afterwards, ends with this process
  const workers = new Workers(job.settings)
  const told: string[] = []
  await copyInWorker(workers, job, { signal: AbortSignal.timeout(60_000), accepting: () => { told.push('accepting') }, accepted: () => { told.push('accepted') }, progress: () => {}, space: { claim: async claim => new SpaceLedger().join().claim(claim), settle: () => {} }, onTuning: () => {} })
  // each volume by itself says so with each of its steps
  t.equal(told.indexOf('accepted'), told.length - 1)
  t.ok(told.length > 3 * 2, `${told.length - 1} times for a top and the two volumes below it, which are looked at and made`)
  await forget(image)
})

t.test('volumes that the engine has made are written into, if all are of the generation that was said', async t => {
  const chain = await putChain('given', { sizes: [8 * MiB, 8 * MiB, 8 * MiB] })
  const { image, volumes } = chain
  const give = async (gen: (index: number) => number) => {
    await rm(to(image), { recursive: true, force: true })
    for (const [index, { volume, format }] of volumes.entries()) {
      const parent = volumes[index - 1]
      await putVolume(otherPath, two, image, volume, async file => { await fillQcow2(file, 8 * MiB, parent, []) }, { ...await readMeta(from(image, `${volume}.meta`)), DOMAIN: two, GEN: gen(index), FORMAT: format === 'raw' ? 'RAW' : 'COW' })
    }
  }
  await give(index => index === 1 ? 6 : 5)
  const before = await listing(to(image))
  t.match(await agent.refused('given-mixed', keep(image, {}, { generation: 5 })), { status: 409, body: { code: 'generation-mismatch', generation: 6 } })
  t.match(await agent.refused('given-none', keep(image)), { status: 409, body: { code: 'target-exists' } })
  t.same(await listing(to(image)), before, 'nothing was touched')
  await give(() => 5)
  const task = await agent.done('given', keep(image, { verify: true }, { generation: 5 }))
  t.match(task, { state: 'succeeded', result: { generation: 6 } }, JSON.stringify(task.error))
  await isKept(t, chain, '6')
  t.match(await agent.done('given-again', keep(image, { verify: true }, { generation: 5 })), { result: { alreadyDone: true } })
  const more = await agent.refused('given-more', keep(image, {}, { generation: 6 }))
  t.match(more, { status: 409, body: { code: 'target-exists' } }, more.body.detail)
  await forget(image)

  await give(() => 5)
  await sh('qemu-io', '-f', 'qcow2', '-c', 'write -z 0 65536', to(image, volumes[1]?.volume ?? ''))
  t.match(await agent.refused('given-written', keep(image, {}, { generation: 5 })), { status: 409, body: { code: 'target-exists', detail: /not empty/ } }, 'zeros hide what the parent has')
  await forget(image)
})

t.test('what makes no sense for a chain is refused, with the reason', async t => {
  const chain = await putChain('refused')
  const { image, volumes: [bottom, middle, top] } = chain
  const refused = async (id: string, spec: object) => (await agent.refused(id, spec)).body.code
  t.equal(await refused('r-same', keep(image, {}, { domain: one, image: uuid('another') })), 'not-supported')
  t.equal(await refused('r-volume', keep(image, {}, { volume: uuid('another') })), 'bad-request')
  t.equal(await refused('r-format', keep(image, {}, { format: 'raw' })), 'format-conflict')
  t.equal(await refused('r-allocation', keep(image, {}, { allocation: 'sparse' })), 'bad-request')
  t.equal(await refused('r-cluster', keep(image, {}, { clusterSize: 65536 })), 'bad-request')
  t.equal(await refused('r-replace', keep(image, { onExisting: 'replace' })), 'not-supported')
  const file = from(image, `${middle?.volume}.meta`)
  const good = await readFile(file, 'utf8')
  for (const [what, bad, code] of [
    ['illegal', good.replace('=LEGAL', '=ILLEGAL'), 'volume-illegal'],
    ['of-another-image', good.replace(image, uuid('another')), 'metadata-invalid'],
    ['of-another-parent', good.replace(bottom?.volume ?? '', top?.volume ?? ''), 'metadata-invalid'],
    ['without-a-parent', good.replace(bottom?.volume ?? '', noParent), 'image-invalid']
  ] as const) {
    await writeFile(file, bad)
    const { body } = await agent.refused(`r-${what}`, { ...keep(image), source: { domain: one, image, volume: top?.volume } })
    t.equal(body.code, code, `${what}: ${body.detail}`)
  }
  await writeFile(file, good)
  await sh('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-F', 'raw', '-b', bottom?.volume ?? '', from(image, middle?.volume ?? ''))
  t.equal(await refused('r-backing-format', keep(image)), 'backing-format-conflict')
  t.notOk((await readdir(join(otherPath, 'images'))).includes(image), 'nothing was made')
  t.same(await readdir(join(otherPath, '.vdsm-tasks/parts')), [])
})

t.test('a source that changes after its volume was copied makes the copy of no use; the fix removes all of it', async t => {
  const chain = await putChain('changed')
  const { image, volumes: [bottom, , top] } = chain
  await agent.accept('changed', keep(image, { bandwidth: 2 * MiB }))
  await until(async () => total((await recordIn(otherPath, `${image}.${top?.volume}`)).done) || false, 'a window of the top')
  t.match(await agent.refused('changed-busy', { kind: 'storage.deleteImage', domain: two, image }), { status: 409, body: { code: 'resource-busy' } })
  await sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 77 0 65536', from(image, bottom?.volume ?? ''))
  await agent.request('PATCH', '/tasks/changed', { body: { bandwidth: null } })
  t.match(await agent.finished('changed'), { state: 'failed', error: { code: 'source-changed' } })
  t.match(await readMeta(to(image, `${top?.volume}.meta`)), { LEGALITY: 'ILLEGAL' })
  const [broken] = await agent.fixes(two)
  t.match(await agent.done('changed-clean', broken?.fixes.find(({ action }) => action === 'clean')?.task), { state: 'succeeded' })
  t.match(await agent.image(two, image), { status: 404 })
  t.same(await readdir(join(otherPath, '.vdsm-tasks/parts')), [])
})

t.test('a template that gets another link while it is copied has not changed; one that is written has', async t => {
  const { template, base } = await putTemplate('linked')
  for (const chain of ['keep', 'flat'] as const) {
    for (const [what, change, expected] of [
      ['linked', async () => { await link(from(template, base), from(template, '.another')) }, { state: 'succeeded', result: { verified: true } }],
      // the time of modification is set back: only the content tells
      ['written', async () => { await writeFile(from(template, base), Buffer.alloc(4 * MiB, 1)); await makeOld(from(template, base)) }, { state: 'failed', error: { code: 'source-changed' } }]
    ] as const) {
      const id = `template-${chain}-${what}`
      const target = { image: uuid(id), ...(chain === 'flat' && { volume: base }) }
      await agent.accept(id, keep(template, { chain, bandwidth: 2 * MiB }, target))
      await until(async () => total((await recordIn(otherPath, `${target.image}.${base}`)).done) || false, 'a window')
      await change()
      await agent.request('PATCH', `/tasks/${id}`, { body: { bandwidth: null } })
      const task = await agent.finished(id)
      t.match(task, expected, `${chain} ${what} ${JSON.stringify(task.error)}`)
      await rm(from(template, '.another'), { force: true })
      await forget(target.image)
    }
    await makeDisk(from(template, base), 4 * MiB, { blockBytes: MiB })
  }
})
