import { Ajv } from 'ajv'
import { link, lstat, readFile, rename, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { prepareArea, withArea, type DomainPlace } from '../../src/storage/area.ts'
import { layouts } from '../../src/storage/domain/layouts.ts'
import { forgetCopy } from '../../src/storage/layout/forget.ts'
import type { CopyRequest } from '../../src/storage/protocol.ts'
import { keyOf, type CopyRecord } from '../../src/storage/record.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh, sha256 } from '../helpers/images.ts'
import { makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { copyJob, storageJobs } from '../helpers/storage-jobs.ts'
import type { StorageJob } from '../helpers/storage-change.ts'
import { runFailing } from '../helpers/strace.ts'
import { runUntilCall } from '../helpers/kill-at-call.ts'

t.setTimeout(300_000)

const { argvOf, work } = await storageJobs(t)
// as an agent has it that knows nothing of later members
const earlier = new Ajv({ strict: false }).compile(JSON.parse(await readFile(new URL('../fixtures/records/earlier.schema.json', import.meta.url), 'utf8')) as object)

interface Scene {
  place: DomainPlace
  named: { image: string, volume?: string }
  /** The file that has the image's name. */
  file: string
  copy: StorageJob
  remove: StorageJob
  text: () => Promise<string>
  record: () => Promise<CopyRecord>
  putRecord: (text: string) => Promise<void>
  /** Gives the record the time at which this file was last changed: the clock of a file system ticks slowly. */
  writtenWith: (file: string) => Promise<void>
  /** `ok, mend by forgetCopy`. */
  state: () => Promise<string>
  verified: () => Promise<boolean | undefined>
  forget: () => Promise<unknown>
}

async function scene (t: Test, layout: 'directory' | 'ovirt'): Promise<Scene> {
  const top = await temporaryDirectory(t)
  await prepareArea({ id: 'from', path: top }, true)
  await makeDisk(join(top, 'source.raw'), MiB)
  const id = layout === 'ovirt' ? uuid('domain') : 'local'
  const path = layout === 'ovirt' ? await makeOvirtDomain(join(top, '.to'), id) : join(top, '.to')
  const place: DomainPlace = { id, path, layout }
  if (layout === 'directory') await prepareArea(place, true)
  const named = layout === 'ovirt' ? { image: uuid('image'), volume: uuid('volume') } : { image: 'copy.raw' }
  const request: CopyRequest = {
    what: 'copy',
    source: { domain: 'from', image: 'source.raw', format: 'raw' },
    target: { domain: id, ...named, format: 'raw', allocation: 'sparse' },
    chain: 'flat',
    verify: true,
    onExisting: 'refuse',
    ignoreSpace: false
  }
  const recordPath = join(path, '.vdsm-tasks/copies', `${keyOf(named)}.json`)
  const status = async () => await withArea(place, async area => await layouts[layout].image(area, named.image, undefined))
  return {
    place,
    named,
    file: layout === 'ovirt' ? join(path, 'images', named.image, named.volume ?? '') : join(path, named.image),
    copy: copyJob([{ id: 'from', path: top }, place], request, { clone: false }),
    remove: { what: 'delete', place, request: { ...named, host: { id: 'node1' }, taskId: 'remove' } },
    text: async () => await readFile(recordPath, 'utf8'),
    record: async () => {
      const record = JSON.parse(await readFile(recordPath, 'utf8')) as CopyRecord
      t.ok(earlier(record), `an earlier agent reads a record that is ${record.phase}: ${JSON.stringify(earlier.errors)}`)
      return record
    },
    putRecord: async text => { await writeFile(recordPath, text) },
    writtenWith: async file => {
      const { ctimeNs } = await stat(file, { bigint: true })
      await sh('touch', '-m', '-d', `@${ctimeNs / 1_000_000_000n}.${String(ctimeNs % 1_000_000_000n).padStart(9, '0')}`, recordPath)
    },
    state: async () => {
      const { state, fixes } = await status()
      return [state, ...fixes.map(({ action, task }) => `${action} by ${task.kind.replace('storage.', '')}`)].join(', ')
    },
    verified: async () => {
      const { copy, volumes } = await status()
      return (volumes?.[0]?.copy ?? copy)?.verified
    },
    forget: async () => await withArea(place, async area => await forgetCopy(area, named))
  }
}

/** Puts another file of the same content, length and time of modification in the place of one. */
async function replace (file: string): Promise<void> {
  const { mtime } = await stat(file)
  await writeFile(`${file}-other`, await readFile(file))
  await utimes(`${file}-other`, mtime, mtime)
  await rename(`${file}-other`, file)
}

async function writeInto (file: string): Promise<void> {
  await writeFile(file, 'a guest was here', { flag: 'r+' })
}

const forgetting = 'ok, mend by forgetCopy'

for (const layout of ['directory', 'ovirt'] as const) {
  t.test(`${layout}: an interrupted deletion goes on with the file that it means, and with no other one`, async t => {
    for (const [what, change, isMeant] of [['the same', async () => {}, true], ['another', replace, false], ['a written', writeInto, false]] as const) {
      for (const isEarlier of [false, true]) {
        const { copy, remove, file, record, putRecord, writtenWith, state, forget } = await scene(t, layout)
        await work(copy)
        t.equal(await runUntilCall(argvOf(remove), { name: 'unlink', number: 1 }), 'SIGKILL')
        const { target, ...rest } = await record()
        t.match(rest, { phase: 'deleting' })
        t.equal(target?.inode, String((await stat(file)).ino))
        if (isEarlier) await putRecord(JSON.stringify(rest))
        await change(file)
        if (isEarlier && !isMeant) await writtenWith(file)
        const content = await sha256(file)
        const message = `${what} file${isEarlier ? ', by an intent without its identity' : ''}`
        if (isMeant) {
          t.equal(await state(), 'illegal, clean by deleteImage', message)
          await work(remove)
          await t.rejects(lstat(file), { code: 'ENOENT' }, message)
        } else {
          if (layout === 'directory') t.equal(await state(), forgetting, message)
          await work(remove)
          t.equal(await sha256(file), content, message)
          t.strictSame(await forget().catch((error: unknown) => error), { domain: copy.what === 'copy' && copy.job.request.what === 'copy' ? copy.job.request.target.domain : '', ...namedOf(copy), forgotten: false })
        }
      }
    }
  })

  t.test(`${layout}: a deletion that failed leaves image and record as they were`, async t => {
    const { copy, remove, file, text, state } = await scene(t, layout)
    await work(copy)
    const [before, content] = [await text(), await sha256(file)]
    t.match(JSON.parse(await runFailing(argvOf(remove), 'unlink', 'EIO', '1')), { code: 'storage-failed' })
    t.equal(await text(), before)
    t.equal(await sha256(file), content)
    t.equal(await state(), 'ok')
    t.match(JSON.parse(await runFailing(argvOf(copy), 'unlink', 'EIO', '1000')), { result: { alreadyDone: true, verified: true } })
  })

  t.test(`${layout}: a copy that has its name is finished for the very same file only`, async t => {
    for (const [what, change] of [['linked', async (file: string) => { await link(file, `${file}-link`) }], ['written', writeInto], ['replaced', replace]] as const) {
      const { copy, file, record, state, verified, forget } = await scene(t, layout)
      t.equal(await runUntilCall(argvOf(copy), { name: 'unlink', number: layout === 'ovirt' ? 3 : 1 }), 'SIGKILL')
      const { phase, target } = await record()
      if (layout === 'directory') t.match({ phase, target }, { phase: 'finishing', target: { inode: String } })
      if (phase !== 'finishing') continue
      await change(file)
      const content = await sha256(file)
      if (what === 'linked') {
        t.equal(await state(), 'interrupted, mend by mendImage')
        await work(copy)
        t.match(await record(), { phase: 'done', verified: true })
        t.equal(await verified(), true)
        continue
      }
      t.equal(await state(), what === 'written' ? forgetting : 'illegal, clean by deleteImage')
      t.match(JSON.parse(await runFailing(argvOf(copy), 'unlink', 'EIO', '1000')), { code: 'target-exists' })
      if (what === 'written') {
        t.match(await forget(), { forgotten: true })
        t.equal(await state(), 'ok')
      }
      t.equal(await sha256(file), content, 'nobody touched it')
    }
  })

  t.test(`${layout}: neither alreadyDone nor verified is told of another file than the copy`, async t => {
    for (const change of [writeInto, replace]) {
      const { copy, file, record, verified } = await scene(t, layout)
      await work(copy)
      t.match(await record(), { phase: 'done', verified: true })
      t.equal(await verified(), true)
      await change(file)
      t.equal(await verified(), undefined)
      t.match(JSON.parse(await runFailing(argvOf(copy), 'unlink', 'EIO', '1000')), { code: 'target-exists' })
    }
  })

  t.test(`${layout}: a record that cannot be read does not condemn a complete image`, async t => {
    const { copy, remove, file, text, putRecord, state, forget } = await scene(t, layout)
    await work(copy)
    const [good, content] = [await text(), await sha256(file)]
    await putRecord(good.replace('{', '{"later":{"x":[1]},'))
    t.equal(await state(), 'ok', 'an unknown member')
    for (const bad of ['', good.slice(0, 100), 'rubbish', '[]']) {
      await putRecord(bad)
      t.equal(await state(), forgetting, bad.slice(0, 10))
      t.match(await forget(), { forgotten: true })
      t.match(await forget(), { forgotten: false }, 'again is no error')
      t.equal(await state(), 'ok')
    }
    await putRecord(good.replace('"version":1', '"version":2'))
    t.equal(await state(), 'ok', 'and one of a newer agent offers nothing')
    const refused = { code: 'record-newer' }
    t.match(JSON.parse(await runFailing(argvOf(remove), 'unlink', 'EIO', '1000')), refused)
    t.match(JSON.parse(await runFailing(argvOf(copy), 'unlink', 'EIO', '1000')), refused)
    await t.rejects(forget(), refused)
    t.equal(await sha256(file), content)
  })
}

t.test('a deletion that means an unfinished copy does not hit what has become of it', async t => {
  const { copy, remove, file, record } = await scene(t, 'directory')
  t.equal(await runUntilCall(argvOf(copy), { name: 'link', number: 1 }), 'SIGKILL')
  const { copyId } = await record()
  if (remove.what !== 'delete') return
  const guarded = { ...remove, request: { ...remove.request, copyId } }
  await work(copy)
  await t.rejects(work(guarded), { code: 'already-complete' })
  t.ok((await stat(file)).isFile())
  await t.rejects(work({ ...remove, request: { ...remove.request, copyId: '00000000-0000-4000-8000-000000000000' } }), { code: 'copy-not-found' })
  t.ok((await stat(file)).isFile())
})

function namedOf (job: StorageJob): object {
  if (job.what !== 'copy' || job.job.request.what !== 'copy') return {}
  const { image, volume } = job.job.request.target
  return { image, ...(volume !== undefined && { volume }) }
}
