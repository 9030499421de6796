import { appendFile, link, readdir, readFile, rename, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { copySpec, mendSpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, MiB } from '../helpers/images.ts'
import { makeOvirtDomain, uuid } from '../helpers/ovirt.ts'

// While a host copies, nobody else may touch the record of the copy or the file that it is written to. Whoever does so
// ends the copy: before its next window, and before it gets its name.

t.setTimeout(300_000)

const root = await temporaryDirectory(t)
const domain = uuid('domain')
const ovirt = await makeOvirtDomain(root, domain)
const path = join(root, 'images')
const agent = await startAgent(t, {
  domains: [{ id: 'local', path, create: true }, { id: domain, path: ovirt, layout: 'ovirt' }], copy: { windowSeconds: 0.5 }
})
const size = 12 * MiB
await makeDisk(join(path, 'source.raw'), size)

/** A copy that stands still, and its files. */
interface Scene {
  record: string
  data: string
  target: { domain: string, image: string, volume?: string }
}

interface Disturbance {
  what: string
  disturb: (scene: Scene) => Promise<void>
  /** What ends it is another host's, too. */
  code?: string
  detail: RegExp
  /** Makes it possible to go on. */
  undo?: (scene: Scene) => Promise<void>
  only?: 'raw' | 'ovirt'
}

const aside = (file: string) => join(root, `aside-${uuid(file).slice(0, 8)}`)
const change = async (file: string, how: (record: Record<string, unknown>) => void) => {
  const record = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  how(record)
  await writeFile(`${file}.other`, JSON.stringify(record) + '\n')
  await rename(`${file}.other`, file)
}

const disturbances: Disturbance[] = [
  { what: 'its record is written over', disturb: async ({ record }) => { await change(record, found => { found['bytesMoved'] = 1 }) }, detail: /record was written/ },
  { what: 'its record counts what was not copied', disturb: async ({ record }) => { await change(record, found => { found['done'] = [[0, size]] }) }, detail: /record was written/, undo: async ({ record }) => { await change(record, found => { found['done'] = [] }) } },
  { what: 'its record gets another form', disturb: async ({ record }) => { await appendFile(record, '\n') }, detail: /record was written/ },
  { what: 'its record is linked', disturb: async ({ record }) => { await link(record, aside(record)) }, detail: /has another name/, undo: async ({ record }) => { await rm(aside(record)) } },
  { what: 'its record is taken over', disturb: async ({ record }) => { await change(record, found => { found['epoch'] = 7 }) }, code: 'lease-lost', detail: /has continued it/ },
  { what: 'its file is renamed', disturb: async ({ data }) => { await rename(data, aside(data)) }, detail: /renamed or removed/, undo: async ({ data }) => { await rename(aside(data), data) } },
  { what: 'its file is exchanged', disturb: async ({ data }) => { await rename(data, aside(data)); await makeDisk(data, size) }, detail: /exchanged/, undo: async ({ data }) => { await rename(aside(data), data) } },
  { what: 'its file is linked', disturb: async ({ data }) => { await link(data, aside(data)) }, detail: /another name/, undo: async ({ data }) => { await unlink(aside(data)) } },
  { what: 'its file is cut', disturb: async ({ data }) => { await truncate(data, MiB) }, detail: /cut or lengthened/ },
  { what: 'its file is lengthened', disturb: async ({ data }) => { await truncate(data, 2 * size) }, detail: /cut or lengthened/, only: 'raw' },
  {
    what: 'its volume is called whole',
    disturb: async ({ data }) => { await writeFile(`${data}.meta`, (await readFile(`${data}.meta`, 'utf8')).replace('=ILLEGAL', '=LEGAL')) },
    detail: /metadata/,
    undo: async ({ data }) => { await writeFile(`${data}.meta`, (await readFile(`${data}.meta`, 'utf8')).replace('=LEGAL', '=ILLEGAL')) },
    only: 'ovirt'
  }
]

async function begin (where: 'raw' | 'qcow2' | 'ovirt', name: string): Promise<Scene> {
  if (where === 'ovirt') {
    const [image, volume] = [uuid(`image ${name}`), uuid(`volume ${name}`)]
    await agent.accept(name, copySpec('source.raw', '', { target: { domain, image, volume }, bandwidth: stalled }))
    return { record: join(ovirt, `.vdsm-tasks/copies/${image}.${volume}.json`), data: join(ovirt, 'images', image, volume), target: { domain, image, volume } }
  }
  const image = `${name}.${where}`
  await agent.accept(name, copySpec('source.raw', image, { bandwidth: stalled }))
  const record = join(path, `.vdsm-tasks/copies/${image}.json`)
  const { copyId } = JSON.parse(await readFile(record, 'utf8')) as { copyId: string }
  return { record, data: join(path, '.vdsm-tasks/parts', copyId), target: { domain: 'local', image } }
}

async function isEnded (t: Test, where: 'raw' | 'qcow2' | 'ovirt', { what, disturb, code = 'target-changed', detail, undo }: Disturbance): Promise<void> {
  const name = `${where}-${what.replaceAll(/[^a-z]+/g, '-')}`
  const scene = await begin(where, name)
  await agent.untilDone(scene.target.domain, scene.target.image, 1)
  await disturb(scene)
  const [before, content] = [await stat(scene.data).catch(() => undefined), await readFile(scene.record, 'utf8')]
  await agent.request('PATCH', `/tasks/${name}`, { body: { bandwidth: null } })
  t.match(await agent.finished(name), { state: 'failed', error: { code, detail } })
  t.equal(await readFile(scene.record, 'utf8'), content, 'the record is as they have left it')
  t.equal((await stat(scene.data).catch(() => undefined))?.mtimeMs, before?.mtimeMs, 'nothing was written into what has the name')
  await undo?.(scene)
  t.match(await agent.done(`mend-${name}`, { ...mendSpec(''), ...scene.target }), { state: 'succeeded' }, 'it can be continued, or copied anew')
  const file = { path: where === 'ovirt' ? scene.data : join(path, scene.target.image), format: where === 'qcow2' ? 'qcow2' : 'raw' } as const
  t.equal(await compare({ path: join(path, 'source.raw'), format: 'raw' }, file), identical)
}

for (const where of ['raw', 'qcow2', 'ovirt'] as const) {
  for (const disturbance of disturbances) {
    const { what, only } = disturbance
    if (only !== undefined && only !== where) continue
    t.test(`a copy to ${where} ends when ${what}`, async t => { await isEnded(t, where, disturbance) })
  }
}

t.test('all that is left is what was put aside', async t => {
  t.same(await readdir(join(path, '.vdsm-tasks/parts')), [])
})
