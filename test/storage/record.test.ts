import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { imageNamePattern } from '../../src/api/names.ts'
import { parseRecord, readRecord, recordedKeys, removeRecord, writeRecord, type CopyRecord } from '../../src/storage/record.ts'
import { closeFd, openDirectory } from '../../src/system/directory.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { recordOf } from '../helpers/records.ts'

const path = await temporaryDirectory(t)
const copies = await openDirectory(path)
t.teardown(async () => { await closeFd(copies.fd) })

const parse = (record: unknown): CopyRecord => parseRecord(JSON.stringify(record), 'local', 'copy.raw')
const invalid = { code: 'record-invalid', message: /copy\.raw/ }

t.test('a record that was written is read back whole', async t => {
  const full = recordOf({ bandwidth: 5, bytesPerSecond: 3, completedAt: '2026-01-01T00:00:02.000Z', verified: true, target: { inode: '1', size: 1, modified: '1', changed: '1', born: '0' }, host: { id: 'node1', url: 'https://node1' } })
  const { source: _, inode: __, ...bare } = recordOf({ done: [], begun: [] })
  for (const record of [full, bare]) {
    await writeRecord(copies, record)
    t.same(await readRecord(copies, 'local', 'copy.raw'), record)
  }
  t.same(await readdir(path), ['copy.raw.json'], 'and nothing else is left')
  t.ok(await removeRecord(copies, 'copy.raw'))
  t.notOk(await removeRecord(copies, 'copy.raw'))
  t.equal(await readRecord(copies, 'local', 'copy.raw'), undefined)
})

t.test('with a record goes what a write that was cut off has left of it, also if that is all there is', async t => {
  const directory = await temporaryDirectory(t)
  const copies = await openDirectory(directory)
  t.teardown(async () => { await closeFd(copies.fd) })
  for (const names of [['copy.raw.json.new'], ['copy.raw.json'], ['copy.raw.json', 'copy.raw.json.new']]) {
    for (const name of names) await writeFile(join(directory, name), '{')
    t.ok(await removeRecord(copies, 'copy.raw'), names.join())
    t.strictSame(await readdir(directory), [], names.join())
  }
})

t.test('what this product would not have written is refused', async t => {
  t.same(parse(recordOf()), recordOf())
  const { phase: _, ...withoutPhase } = recordOf()
  const [file] = recordOf().source?.files ?? []
  const source = (change: object) => ({ ...recordOf(), source: { ...recordOf().source, ...change } })
  const hostile: Record<string, unknown> = {
    'no phase': withoutPhase,
    'an unknown phase': { ...recordOf(), phase: 'ready' },
    'a copy id that leads out': { ...recordOf(), copyId: '../../../etc/passwd' },
    'a copy id with a slash': { ...recordOf(), copyId: '0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f/x' },
    'a copy id in two lines': { ...recordOf(), copyId: '0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f\n' },
    'another image': { ...recordOf(), image: 'other.raw' },
    'another domain': { ...recordOf(), domain: 'other' },
    'an image that leads out': { ...recordOf(), image: '../copy.raw' },
    'a source that leads out': source({ files: [{ ...file, image: '../../etc/passwd' }] }),
    'a source with an absolute path': source({ files: [{ ...file, image: '/etc/passwd' }] }),
    'a source domain that leads out': source({ domain: '../x' }),
    'a source of another format': source({ files: [{ ...file, format: 'vmdk' }] }),
    'a source without files': source({ files: [] }),
    'a source of too many files': source({ files: Array.from({ length: 201 }, () => file) }),
    'a negative size': { ...recordOf(), virtualSize: -1, done: [], begun: [] },
    'a size beyond 2^53': { ...recordOf(), virtualSize: 2 ** 53 },
    'a size that is no integer': { ...recordOf(), virtualSize: 4096.5 },
    'a size that is text': { ...recordOf(), virtualSize: '4096' },
    'ranges beyond the size': { ...recordOf(), done: [[0, 4097]] },
    'ranges out of order': { ...recordOf(), begun: [[2048, 4096], [0, 1024]] },
    'ranges that overlap': { ...recordOf(), done: [[0, 2048], [1024, 4096]] },
    'a range that runs backwards': { ...recordOf(), done: [[1024, 0]] },
    'a range of three': { ...recordOf(), done: [[0, 1, 2]] },
    'epoch zero': { ...recordOf(), epoch: 0 },
    'a host without an id': { ...recordOf(), host: {} },
    'an endless host': { ...recordOf(), host: { id: 'x'.repeat(256) } },
    null: null,
    'an array': [],
    text: 'record'
  }
  for (const [what, record] of Object.entries(hostile)) t.throws(() => parse(record), invalid, what)
  for (const text of ['', '{', 'rubbish', '\0\0\0\0', JSON.stringify(recordOf()).slice(0, -1), `${JSON.stringify(recordOf())}x`]) {
    t.throws(() => parseRecord(text, 'local', 'copy.raw'), invalid, JSON.stringify(text.slice(0, 20)))
  }
})

t.test('a record is read no further than four megabytes', async t => {
  await writeFile(join(path, 'copy.raw.json'), JSON.stringify(recordOf()) + ' '.repeat(5 * 1024 * 1024))
  t.match(await readRecord(copies, 'local', 'copy.raw'), { image: 'copy.raw' }, 'blanks at the end do no harm')
  await writeFile(join(path, 'copy.raw.json'), ' '.repeat(5 * 1024 * 1024) + JSON.stringify(recordOf()))
  await t.rejects(readRecord(copies, 'local', 'copy.raw'), invalid)
})

t.test('a record that is no regular file is refused, not followed', async t => {
  await writeFile(join(path, 'elsewhere'), JSON.stringify(recordOf({ image: 'link.raw' })))
  await symlink('elsewhere', join(path, 'link.raw.json'))
  await mkdir(join(path, 'folder.raw.json'))
  for (const image of ['link.raw', 'folder.raw']) await t.rejects(readRecord(copies, 'local', image), { code: 'record-invalid' }, image)
})

t.test('what no reader would accept is not written', async t => {
  await writeRecord(copies, recordOf())
  for (const wrong of [{ windowBytes: 1.5 }, { bytesMoved: -1 }, { epoch: 0 }, { done: [[0, 0.5]] as Array<[number, number]> }]) {
    await t.rejects(writeRecord(copies, recordOf(wrong)), { message: /copy\.raw would be wrong/ })
  }
  t.same(await readRecord(copies, 'local', 'copy.raw'), recordOf())
  await removeRecord(copies, 'copy.raw')
})

t.test('a record that cannot be written leaves the old one and no half of a new one', async t => {
  await writeRecord(copies, recordOf())
  await mkdir(join(path, 'copy.raw.json.new'))
  await t.rejects(writeRecord(copies, recordOf({ epoch: 2 })))
  t.equal(JSON.parse(await readFile(join(path, 'copy.raw.json'), 'utf8')).epoch, 1)
})

t.test('file names in copies/ tell their image', async t => {
  const longest = 'x'.repeat(200)
  t.match(longest, new RegExp(imageNamePattern))
  t.ok(`${longest}.json.new`.length <= 255, 'the longest name fits the file system')
  for (const [files, keys] of [
    [['a.raw.json'], ['a.raw']],
    [['b.raw.json.new'], ['b.raw']],
    [['b.raw.json', 'a.raw.json', 'a.raw.json.new'], ['a.raw', 'b.raw']],
    // images may be called like that
    [['a.json.json', 'a.json.json.new'], ['a.json']],
    [['a.json.new.json'], ['a.json.new']],
    [['a.raw', '.json', 'a.jsonx', 'a\n.json'], []]
  ] as const) {
    const path = await temporaryDirectory(t)
    for (const file of files) await writeFile(join(path, file), '')
    const copies = await openDirectory(path)
    t.same(await recordedKeys({ id: 'local', copies }), keys, files.join(' '))
    await closeFd(copies.fd)
  }
})

t.test('members of a later version are kept, at every depth, and ignored', async t => {
  const { source, host } = recordOf()
  const later = { ...recordOf(), dropped: ['x'], host: { ...host, rack: 7 }, source: { ...source, files: source?.files.map(file => ({ ...file, identity: { ...file.identity, hash: 'x' } })) } }
  t.strictSame(parseRecord(JSON.stringify(later), 'local', 'copy.raw'), later)
  const copies = await openDirectory(await temporaryDirectory(t))
  await writeRecord(copies, parseRecord(JSON.stringify(later), 'local', 'copy.raw'))
  t.strictSame(await readRecord(copies, 'local', 'copy.raw'), later)
})

t.test('a record of a newer version is not rubbish: it says who can read it', async t => {
  for (const more of [{}, { phase: 'resting' }, { image: 7 }]) t.throws(() => parseRecord(JSON.stringify({ ...recordOf(), version: 2, ...more }), 'local', 'copy.raw'), { code: 'record-newer' })
  for (const version of [0, -1, 1.5, '2', null]) t.throws(() => parseRecord(JSON.stringify({ ...recordOf(), version }), 'local', 'copy.raw'), { code: 'record-invalid' })
})
