import { mkdir, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { imageNamePattern } from '../../src/api/names.ts'
import { AppError } from '../../src/errors.ts'
import { answers } from '../../src/storage/answers.ts'
import { withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import { outcomeOf } from '../../src/storage/outcome.ts'
import { parseDomainMetadata } from '../../src/storage/layout/ovirt/domain-metadata.ts'
import { parseVolumeMetadata } from '../../src/storage/layout/ovirt/volume-metadata.ts'
import { parseRecord, type CopyRecord } from '../../src/storage/record.ts'
import { progressOf } from '../../src/storage/record-progress.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { Hostile } from '../helpers/hostile.ts'
import { domainMetadata, makeOvirtDomain, metaText, metaValues, uuid } from '../helpers/ovirt.ts'
import { recordOf } from '../helpers/records.ts'

// npm run fuzz does it for longer, and says with which seed
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 8) / 8
const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31)

t.setTimeout((4 * seconds + 60) * 1000)

const hostile = new Hostile(seed)

/** Does something again and again for its time; returns how often. */
async function repeat (work: () => void | Promise<void>): Promise<number> {
  const end = performance.now() + seconds * 1000
  let times = 0
  while (performance.now() < end) {
    for (let more = 0; more < 20; more++, times++) await work()
  }
  return times
}

/** The code that something was refused with; whatever else is thrown is a flaw. */
function refusalOf (work: () => unknown): string | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    if (error instanceof AppError) return error.code
    throw error
  }
}

const names = new RegExp(imageNamePattern)

/** All that a record makes the agent open. */
const openedBy = ({ image, copyId, source }: CopyRecord) => [image, copyId, ...source?.files.map(file => file.image) ?? []]

t.test(`a record is refused, or all that it names is a name (seed ${seed})`, async t => {
  let taken = 0
  const chain = { id: '0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f', volumes: [{ image: uuid('image'), volume: uuid('base'), bytes: 4096 }] }
  const times = await repeat(() => {
    const good = recordOf(hostile.int(4) === 0 ? { chain } : {})
    const text = hostile.int(3) === 0 ? hostile.spoil(JSON.stringify(good)).toString() : JSON.stringify(hostile.twist(hostile.twist(good)))
    const code = refusalOf(() => {
      const record = parseRecord(text, 'local', 'copy.raw')
      taken++
      for (const name of openedBy(record)) if (!names.test(name) || name.includes('/')) t.fail(`${name} in ${text}`)
      const copy = progressOf(record)
      const told = JSON.stringify(copy)
      if (/\\u00[01]/.test(told)) t.fail(`control characters in ${told}`)
      const flaw = answers.copies.flaw({ ok: [{ domain: 'local', image: 'copy.raw', state: 'illegal', copy }] })
      if (flaw !== undefined) t.fail(flaw)
    })
    if (code !== undefined && code !== 'record-invalid' && code !== 'record-newer') t.fail(`${code} for ${text}`)
  })
  t.comment(`${times} records, ${taken} of them taken`)
  t.ok(taken > 0 && taken < times)
})

t.test(`metadata of a volume or a domain are refused, or every UUID in them is one (seed ${seed})`, async t => {
  const [domain, image] = [uuid('domain'), uuid('image')]
  const good = metaValues(domain, image)
  let taken = 0
  const times = await repeat(() => {
    const twisted = hostile.twist(good)
    const volume = hostile.int(2) === 0 || typeof twisted !== 'object' || twisted === null ? hostile.spoil(metaText(good)) : Buffer.from(metaText(Object.fromEntries(Object.entries(twisted).map(([key, value]) => [key, String(value)]))))
    const metadata = hostile.spoil(domainMetadata(domain))
    const codes = [
      refusalOf(() => {
        const { parent, domain, image, capacity } = parseVolumeMetadata(volume, 'x.meta')
        taken++
        for (const id of [parent ?? uuid('none'), domain, image]) if (!/^[0-9a-f-]{36}$/.test(id)) t.fail(`${id} in ${volume.toString()}`)
        if (!Number.isSafeInteger(capacity) || capacity < 0) t.fail(`capacity ${capacity}`)
      }),
      refusalOf(() => { parseDomainMetadata(metadata, 'metadata') })
    ]
    for (const code of codes) if (code !== undefined && code !== 'metadata-invalid') t.fail(`${code} for ${volume.toString()} or ${metadata.toString()}`)
  })
  t.comment(`${times} files, ${taken} of them taken`)
  t.ok(taken > 0 && taken < times)
})

for (const layout of ['directory', 'ovirt'] as const) {
  t.test(`a ${layout} domain full of rubbish can be read and cleaned, and nothing outside is touched (seed ${seed})`, async t => {
    const top = await temporaryDirectory(t)
    const outside = join(top, 'outside')
    await mkdir(outside)
    await writeFile(join(outside, 'secret.raw'), 'secret')
    const id = layout === 'ovirt' ? uuid('domain') : 'local'
    const path = layout === 'ovirt' ? await makeOvirtDomain(top, id) : join(top, 'domain')
    const own = join(path, '.vdsm-tasks')
    const place: DomainPlace = { id, path, layout, ...(layout === 'ovirt' && { owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 } }) }
    for (const room of ['copies', 'leases', 'parts']) await mkdir(join(own, room), { recursive: true })
    if (layout === 'directory') await writeFile(join(own, 'domain.json'), '{"id":"local"}')
    const image = layout === 'ovirt' ? uuid('image') : 'copy.raw'
    const volume = uuid('volume')
    const key = layout === 'ovirt' ? `${image}.${volume}` : image
    const record = recordOf({ domain: id, image, ...(layout === 'ovirt' && { volume, generation: 7 }) })
    const before = await listing(outside)

    /** Puts something where an honest host would have put something else. */
    const putThere = async (at: string, content: () => Buffer | string) => {
      switch (hostile.int(12)) {
        case 0: return await symlink(join(outside, 'secret.raw'), at)
        case 1: return await symlink(outside, at)
        case 2: return await mkdir(at)
        case 3: return
        default: await writeFile(at, content())
      }
    }
    const flaws: string[] = []
    const times = await repeat(async () => {
      const phase = hostile.pick(['creating', 'copying', 'finishing', 'done', 'deleting'] as const)
      const { source: _, ...creation } = record
      const honest = { ...hostile.int(3) === 0 ? { ...creation, description: '', diskType: 'DATA' } : record, phase }
      await putThere(join(own, 'copies', `${key}.json${hostile.pick(['', '', '', '.new'])}`), () => JSON.stringify(hostile.int(2) === 0 ? honest : hostile.twist(honest)))
      await putThere(join(own, 'leases', key), () => '')
      await putThere(join(own, 'parts', record.copyId), () => 'part')
      if (layout === 'directory') await putThere(join(path, image), () => 'image')
      else {
        await mkdir(join(path, 'images', image), { recursive: true })
        await putThere(join(path, 'images', image, volume), () => 'data')
        await putThere(join(path, 'images', image, `${volume}.meta`), () => hostile.spoil(metaText(metaValues(id, image, { LEGALITY: hostile.pick(['LEGAL', 'ILLEGAL']), PUUID: hostile.pick([uuid('parent'), volume]) }))))
        await putThere(join(path, 'images', image, `${volume}.lease`), () => '')
      }
      const work = layouts[layout]
      const host = { id: 'node1' }
      const done = await Promise.all([
        withArea(place, async area => await outcomeOf('image', async () => await work.image(area, image, undefined), () => {})),
        withArea(place, async area => await outcomeOf('images', async () => await work.images(area, '', 10), () => {})),
        withArea(place, async area => await outcomeOf('copies', async () => await work.copies(area), () => {})),
        withArea(place, async area => await outcomeOf('fixes', async () => await work.fixes(area), () => {}))
      ])
      const removed = await withArea(place, async area => await outcomeOf('delete', async () => await work.delete(area, { image, host, taskId: 'x' }, () => {}), () => {}))
      // as they cross the border of the process
      for (const [index, answer] of [answers.image, answers.images, answers.copies, answers.fixes].entries()) {
        const flaw = answer.flaw(JSON.parse(JSON.stringify(done[index])))
        if (flaw !== undefined) flaws.push(`${flaw}: ${JSON.stringify(done[index])}`)
      }
      for (const outcome of [...done, removed]) if ('error' in outcome && outcome.error.code === 'internal') flaws.push(JSON.stringify(outcome))
      for (const room of ['copies', 'leases', 'parts']) await rm(join(own, room), { recursive: true }).then(async () => { await mkdir(join(own, room)) })
      await rm(join(path, layout === 'ovirt' ? 'images' : '', image), { recursive: true, force: true })
    })
    t.comment(`${times} domains`)
    t.same(flaws.slice(0, 3), [])
    t.same(await listing(outside), before, 'what is outside is as it was')
  })
}
