import { copyFile, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { Test } from 'tap'
import { copySpec, deleteSpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sh, sha256 } from '../helpers/images.ts'
import { makeOvirtDomain, noParent, putVolume, uuid } from '../helpers/ovirt.ts'

// What is copied is the graph that was declared, byte for byte as qemu-img reads that graph, or nothing. Every chain is
// copied, previewed and compared, in both layouts.

t.setTimeout(600_000)

type Format = 'raw' | 'qcow2'
/** What the header of the overlay says of its backing file. */
type Declared = Format | 'vmdk' | undefined

let count = 0

const root = await temporaryDirectory(t)
const domain = join(root, 'domain')
const [one, two] = [uuid('formats one'), uuid('formats two')]
await sh('mkdir', domain)
const [ovirt, other] = await Promise.all([makeOvirtDomain(root, one), makeOvirtDomain(root, two)])
const agent = await startAgent(t, {
  domains: [{ id: 'local', path: domain, create: true }, { id: one, path: ovirt, layout: 'ovirt' }, { id: two, path: other, layout: 'ovirt' }],
  copy: { clone: false }
})
const at = (name: string) => join(domain, name)

const disks = { raw: join(root, 'disk.raw'), qcow2: join(root, 'disk.qcow2') }
await makeDisk(disks.raw, MiB, { blockBytes: 128 * 1024 })
await sh('qemu-img', 'convert', '-O', 'qcow2', disks.raw, disks.qcow2)

/** An overlay with some data of its own, whose header says this of its backing file. */
async function makeOverlay (path: string, backing: string, declared: Declared): Promise<void> {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M')
  await sh('qemu-io', '-f', 'qcow2', '-c', `write -P 0x5a ${64 * 1024} ${64 * 1024}`, path)
  await sh('qemu-img', 'rebase', '-u', '-f', 'qcow2', '-b', backing, '-F', declared ?? 'raw', path)
  if (declared === undefined) await undeclare(path)
  await makeOld(path)
}

/** Takes the backing format out of a header, where qemu-img has not left it out since version 6.1. */
async function undeclare (path: string): Promise<void> {
  const file = await open(path, 'r+')
  try {
    const { buffer } = await file.read(Buffer.alloc(4096), 0, 4096, 0)
    const extension = buffer.indexOf('e2792aca', 0, 'hex')
    // type 0 ends the list of extensions
    await file.write(Buffer.alloc(4), 0, 4, extension)
  } finally {
    await file.close()
  }
}

interface File { path: string, format: Format }

/** The hash of what a guest reads of a graph whose formats are all given: the truth that a copy is measured by. */
async function hashOfGraph (files: readonly File[]): Promise<string> {
  let node: object | null = null
  for (const { path, format } of files.toReversed()) node = { driver: format, file: { driver: 'file', filename: path }, ...(format === 'qcow2' && { backing: node }) }
  const out = join(root, `truth${count++}.raw`)
  await sh('qemu-img', 'convert', '-O', 'raw', `json:${JSON.stringify(node)}`, out)
  const hash = await sha256(out)
  await rm(out)
  return hash
}

interface Chain {
  what: string
  source: { domain: string, image: string, volume?: string }
  /** The graph that is declared, or the code of the refusal. */
  graph: readonly File[] | string
}

/** The copy, its dry run, and the comparison with the truth, or their refusals. */
async function isDeclaredGraph (t: Test, { what, source, graph }: Chain): Promise<void> {
  const id = `c${count++}`
  const target = { domain: 'local', image: `${id}.raw` }
  const spec = { kind: 'storage.copyImage', source, target, verify: true }
  // at once, so that the processors have something to do: a target of its own each, as a dry run takes the lease of it
  const previewed = preview(`${id}-dry`, { ...spec, target: { domain: 'local', image: `${id}-dry.raw` } })
  if (typeof graph === 'string') {
    const verify = { kind: 'storage.verifyImage', ...source, against: { domain: 'local', image: 'sample.raw' } }
    const refusals = await Promise.all([previewed, agent.refused(id, spec), agent.refused(`${id}-verify`, verify)])
    for (const [index, way] of ['dry run', 'copy', 'verify'].entries()) {
      const body = refusals[index]?.body
      t.equal(body?.code, graph, `${what}: ${way}: ${body?.detail}`)
    }
    t.notOk((await readdir(domain)).includes(target.image), `${what}: nothing was made`)
    return
  }
  const { status, body } = await previewed
  t.match({ status, body }, { status: 200, body: { plan: { outcome: 'copy' } } }, `${what}: dry run ${JSON.stringify(body)}`)
  const task = await agent.done(id, spec)
  t.match(task, { state: 'succeeded', result: { verified: true } }, `${what}: ${JSON.stringify(task.error)}`)
  t.equal(await sha256(at(target.image)), await hashOfGraph(graph), `${what}: the bytes of the declared graph`)
  t.match(await agent.done(`${id}-verify`, { kind: 'storage.verifyImage', ...source, against: target }), { result: { identical: true } }, `${what}: verify`)
}

async function preview (id: string, spec: object) {
  return await agent.request<{ code?: string, detail?: string }>('PUT', `/tasks/${id}?dryRun=true`, { body: spec })
}

await makeDisk(at('sample.raw'), MiB)

/** What is read as the base, as the header of its overlay and its name have it, or the refusal. */
function formatOfBase (name: string, content: Format, declared: Declared): Format | undefined {
  if (declared === 'raw') return 'raw'
  if (declared === 'qcow2') return content === 'qcow2' ? 'qcow2' : undefined
  if (declared === 'vmdk') return undefined
  // the name is the default, but never for what begins like a qcow2 image
  return content === 'raw' && /\.(raw|img|iso)$/.test(name) ? 'raw' : undefined
}

for (const name of ['base.img', 'base.qcow2', 'base']) {
  t.test(`directory: a base called ${name} is read as its overlay declares it`, async t => {
    for (const content of ['qcow2', 'raw'] as const) {
      await copyFile(disks[content], at(name))
      await makeOld(at(name))
      // the name matters only where nothing is declared; all of the table is in test/storage/copy/source.test.ts
      for (const declared of name === 'base.img' ? ['qcow2', 'raw', 'vmdk', undefined] as const : [undefined]) {
        await makeOverlay(at('one.qcow2'), name, declared)
        if (content === 'qcow2') {
          // its name says raw, like that of the base
          await makeOverlay(at('middle.img'), `./${name}`, declared)
          await makeOverlay(at('two.qcow2'), 'middle.img', 'qcow2')
        }
        const format = formatOfBase(name, content, declared)
        const base = format === undefined ? undefined : { path: at(name), format }
        for (const levels of content === 'qcow2' ? [['one.qcow2'], ['two.qcow2', 'middle.img']] : [['one.qcow2']]) {
          await isDeclaredGraph(t, {
            what: `${levels.join(' on ')} on ${name}, which holds ${content}, declared ${declared ?? 'not at all'}`,
            source: { domain: 'local', image: levels[0] ?? '' },
            graph: base === undefined ? 'image-invalid' : [...levels.map(level => ({ path: at(level), format: 'qcow2' as const })), base]
          })
        }
      }
    }
    await rm(at(name))
  })
}

t.test('directory: a backing file beside its overlay is found however that is written, and no other', async t => {
  await copyFile(disks.qcow2, at('base.img'))
  for (const name of ['nbd:base.img', 'file:base.img']) await copyFile(disks.qcow2, at(name))
  await sh('mkdir', at('sub'))
  await copyFile(disks.qcow2, at('sub/base.img'))
  for (const [backing, found] of [
    ['./base.img', 'base.img'], ['././base.img', 'base.img'], ['.///.//base.img', 'base.img'], [at('base.img'), 'base.img'], [at('./base.img'), 'base.img'],
    ['./nbd:base.img', 'nbd:base.img'],
    // qemu takes these for protocols, although there are files of that name
    ['nbd:base.img', undefined], ['file:base.img', undefined],
    ['sub/base.img', undefined], ['./sub/base.img', undefined], ['sub/../base.img', undefined], ['../domain/base.img', undefined],
    ['./', undefined], ['.', undefined], ['./..', undefined], ['/base.img', undefined]
  ] as const) {
    await makeOverlay(at('spelled.qcow2'), backing, 'qcow2')
    await isDeclaredGraph(t, {
      what: `backing file ${backing}`,
      source: { domain: 'local', image: 'spelled.qcow2' },
      graph: found === undefined ? 'image-invalid' : [{ path: at('spelled.qcow2'), format: 'qcow2' }, { path: at(found), format: 'qcow2' }]
    })
  }
})

t.test('directory: the refusals say what to do', async t => {
  const detailOf = async (image: string) => (await agent.refused(`detail-${image}`, copySpec(image, 'never.raw'))).body.detail
  await makeOverlay(at('undeclared.qcow2'), 'base.img', undefined)
  t.match(await detailOf('undeclared.qcow2'), /undeclared\.qcow2.*format of its backing file base\.img, and that begins like a qcow2 image.*qemu-img rebase -u -F FORMAT -b base\.img undeclared\.qcow2/)
  await makeOverlay(at('exotic.qcow2'), 'base.img', 'vmdk')
  t.match(await detailOf('exotic.qcow2'), /exotic\.qcow2.*declares "vmdk" as the format of its backing file base\.img/)
})

t.test('directory: a top that looks like qcow2 is what the request or its name says', async t => {
  for (const [name, format] of [['top.img', undefined], ['top.qcow2', 'raw'], ['top', 'raw']] as const) {
    await makeOverlay(at(name), 'base.img', 'qcow2')
    t.match(await agent.done(`raw-${name}`, copySpec('', 'raw-copy.raw', { source: { domain: 'local', image: name, format } })), { state: 'succeeded' })
    t.equal(await sha256(at('raw-copy.raw')), await sha256(at(name)), `${name} is raw`)
    await agent.done(`delete-${name}`, deleteSpec('raw-copy.raw'))
  }
})

/** A chain of volumes: what the file of the base holds, what its metadata say, and what the header of its overlay does. */
async function putChain (name: string, { levels, content, metadata, declared, spell }: { levels: number, content: Format, metadata: Format, declared: Declared, spell: (volume: string) => string }) {
  const image = uuid(name)
  const volumes = Array.from({ length: levels + 1 }, (_, level) => uuid(`${name} ${level}`))
  const files: File[] = []
  for (const [level, volume] of volumes.entries()) {
    const parent = volumes[level - 1]
    const path = await putVolume(ovirt, one, image, volume, async path => {
      if (parent === undefined) await copyFile(disks[content], path)
      else await makeOverlay(path, spell(parent), level === 1 ? declared : 'qcow2')
    }, {
      CAP: MiB,
      FORMAT: parent !== undefined || metadata === 'qcow2' ? 'COW' : 'RAW',
      PUUID: parent ?? noParent,
      VOLTYPE: level === levels ? 'LEAF' : 'INTERNAL'
    })
    files.unshift({ path, format: parent === undefined ? metadata : 'qcow2' })
  }
  const [base = '', above = ''] = volumes
  return { image, base, above, files }
}

for (const levels of [1, 2]) {
  t.test(`ovirt: header and metadata of a base ${levels} below the leaf must agree`, async t => {
    const spell = (volume: string) => levels === 1 ? volume : `./${volume}`
    for (const [content, metadata] of [['qcow2', 'qcow2'], ['qcow2', 'raw'], ['raw', 'qcow2']] as const) {
      // further down it is the same code: here, who of several volumes says what is wrong
      for (const declared of levels === 1 ? ['qcow2', 'raw', 'vmdk', undefined] as const : ['qcow2', 'raw'] as const) {
        const what = `${levels} on ${spell('base')} with ${content}, ${metadata} by its metadata, declared ${declared ?? 'not at all'}`
        const { image, base, above, files } = await putChain(what, { levels, content, metadata, declared, spell })
        const differ = declared !== undefined && declared !== metadata
        const graph = differ ? 'backing-format-conflict' : metadata === 'qcow2' && content === 'raw' ? 'image-invalid' : files
        const chain = { what, source: { domain: one, image }, graph }
        const [, refusal] = await Promise.all([isDeclaredGraph(t, chain), isKept(t, chain)])
        if (!differ) continue
        const named = [refusal?.['overlay'], refusal?.['backing'], refusal?.['declarations']]
        t.strictSame(named, [`${image}/${above}`, `${image}/${base}`, { header: declared, metadata }], 'who says what')
      }
    }
  })
}

/** A chain that is kept is the same files, and the same disk; or it is refused with what is returned. */
async function isKept (t: Test, { what, source: { image }, graph }: Chain): Promise<Record<string, unknown> | undefined> {
  const id = `k${count++}`
  const spec = { kind: 'storage.copyImage', source: { domain: one, image }, target: { domain: two, image }, chain: 'keep' }
  const { status, body: planned } = await preview(`${id}-dry`, spec)
  if (typeof graph === 'string') {
    t.equal(planned.code, graph, `${what}: dry run of keep: ${planned.detail}`)
    const { body } = await agent.refused(id, spec)
    t.equal(body.code, graph, `${what}: keep: ${body.detail}`)
    t.notOk((await readdir(join(other, 'images'))).includes(image), `${what}: no volume was made`)
    return body
  }
  t.equal(status, 200, `${what}: dry run of keep: ${planned.detail}`)
  const task = await agent.done(id, spec)
  t.match(task, { state: 'succeeded' }, `${what}: keep: ${JSON.stringify(task.error)}`)
  const kept = graph.map(({ path, format }) => ({ path: path.replace(ovirt, other), format }))
  t.equal(await hashOfGraph(kept), await hashOfGraph(graph), `${what}: kept`)
  const verify = { kind: 'storage.verifyImage', domain: one, image, against: { domain: two, image } }
  t.match(await agent.done(`${id}-verify`, verify), { result: { identical: true } }, `${what}: verify of the kept chain`)
  return undefined
}

t.test('ovirt: what the request declares of the top must be what its metadata say', async t => {
  const { image } = await putChain('request', { levels: 1, content: 'qcow2', metadata: 'qcow2', declared: 'qcow2', spell: volume => volume })
  const { body } = await agent.refused('request-raw', copySpec('', '', { source: { domain: one, image, format: 'raw' }, target: { domain: 'local', image: 'never.raw' } }))
  t.match(body, { code: 'format-conflict' })
  t.strictSame(body['declarations'], { request: 'raw', metadata: 'qcow2' })
})
