import { constants } from 'node:fs'
import { chown, mkdir, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import t from 'tap'
import type { Test } from 'tap'
import { giveImageAccess, openArea, prepareArea } from '../../src/storage/area.ts'
import { closeFd, openFile } from '../../src/system/directory.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'

const parent = await temporaryDirectory(t)
let number = 0
const fresh = async (): Promise<{ id: string, path: string }> => {
  const path = join(parent, String(++number))
  await mkdir(path)
  return { id: 'local', path }
}
const unavailable = async (t: Test, place: { id: string, path: string }, what: string | RegExp) => {
  const before = await listing(place.path).catch(() => [])
  await t.rejects(openArea(place), { code: 'domain-unavailable', ...(what instanceof RegExp && { message: what }) }, String(what))
  t.same(await listing(place.path).catch(() => []), before, 'and nothing was changed')
}

t.test('a domain is made in an empty or missing directory, once', async t => {
  const place = { id: 'local', path: join(parent, 'not', 'yet', 'there') }
  await prepareArea(place, true)
  const made = await listing(place.path)
  t.same(JSON.parse(await readFile(join(place.path, '.vdsm-tasks/domain.json'), 'utf8')), { id: 'local' })
  await prepareArea(place, true)
  await prepareArea(place, false)
  t.same((await listing(place.path)).map(line => line.split(' ')[0]), made.map(line => line.split(' ')[0]))
  const area = await openArea(place)
  t.equal(area.id, 'local')
  t.type(area.local, 'boolean')
  await area.close()
})

t.test('what a fresh file system has in its root does not make it foreign', async t => {
  const place = await fresh()
  await mkdir(join(place.path, 'lost+found'))
  await prepareArea(place, true)
  await (await openArea(place)).close()
})

t.test('a directory with something in it is not taken', async t => {
  const place = await fresh()
  await writeFile(join(place.path, 'holiday.jpg'), '')
  const before = await listing(place.path)
  await t.rejects(prepareArea(place, true), { code: 'domain-unavailable', message: /holiday\.jpg/ })
  t.same(await listing(place.path), before)
})

t.test('a domain that somebody made by hand gets what is missing, its marker stays', async t => {
  const place = await fresh()
  await writeFile(join(place.path, 'disk.raw'), '')
  await mkdir(join(place.path, '.vdsm-tasks'))
  await writeFile(join(place.path, '.vdsm-tasks/domain.json'), '{"id":"local","note":"mine"}')
  await prepareArea(place, false)
  await (await openArea(place)).close()
  t.match(await readFile(join(place.path, '.vdsm-tasks/domain.json'), 'utf8'), /mine/)
})

t.test('without create nothing is made, so nobody fills an unmounted directory', async t => {
  const place = await fresh()
  await prepareArea(place, false)
  t.same(await listing(place.path), [])
  await unavailable(t, place, /mounted/)
  await unavailable(t, { id: 'local', path: join(place.path, 'missing') }, /mounted/)
})

t.test('the marker of another domain is respected, and nothing is put beside it', async t => {
  const place = await fresh()
  await mkdir(join(place.path, '.vdsm-tasks'))
  await writeFile(join(place.path, '.vdsm-tasks/domain.json'), '{"id":"theirs"}')
  const before = await listing(place.path)
  for (const create of [false, true]) {
    await t.rejects(prepareArea(place, create), { code: 'domain-unavailable', message: /"theirs"/ })
    t.same(await listing(place.path), before)
  }
  await unavailable(t, place, /theirs/)
})

t.test('a marker that is none is refused', async t => {
  for (const [content, words] of [['', /JSON/], ['{', /JSON/], ['null', /undefined/], ['[]', /undefined/], ['{"id":7}', /7/], ['{"id":"LOCAL"}', /LOCAL/]] as const) {
    const place = await fresh()
    await prepareArea(place, true)
    await writeFile(join(place.path, '.vdsm-tasks/domain.json'), content)
    await unavailable(t, place, words)
  }
})

t.test('links inside a domain do not lead out of it', async t => {
  const other = await fresh()
  await prepareArea(other, true)
  for (const name of ['.vdsm-tasks', '.vdsm-tasks/domain.json', '.vdsm-tasks/copies', '.vdsm-tasks/leases', '.vdsm-tasks/parts']) {
    const place = await fresh()
    await prepareArea(place, true)
    await rm(join(place.path, name), { recursive: true })
    await symlink(join(other.path, name), join(place.path, name))
    await unavailable(t, place, name)
  }
})

t.test('a link to the domain itself is the administrator\'s', async t => {
  const place = await fresh()
  await prepareArea(place, true)
  await symlink(place.path, `${place.path}-link`)
  await (await openArea({ id: 'local', path: `${place.path}-link` })).close()
})

t.test('a creation that was killed before its marker is finished by the next', async t => {
  const place = await fresh()
  await mkdir(join(place.path, '.vdsm-tasks'))
  await mkdir(join(place.path, '.vdsm-tasks/copies'))
  await unavailable(t, place, /mounted/)
  await prepareArea(place, true)
  await (await openArea(place)).close()
})

t.test('an unmounted file system is noticed at the next look, and so is its return', async t => {
  const place = await fresh()
  await prepareArea(place, true)
  await rename(place.path, `${place.path}-away`)
  await mkdir(place.path)
  await unavailable(t, place, /mounted/)
  await rm(place.path, { recursive: true })
  await rename(`${place.path}-away`, place.path)
  await (await openArea(place)).close()
})

const isRoot = process.getuid?.() === 0
const accessOfNew = async (place: { id: string, path: string, owner?: { uid: number, gid: number }, mode?: number }) => {
  const area = await openArea(place)
  const fd = await openFile(area.parts, 'part', constants.O_RDWR | constants.O_CREAT)
  try {
    await giveImageAccess(area, fd)
    const { uid, gid, mode } = await stat(join(place.path, '.vdsm-tasks/parts/part'))
    return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`
  } finally {
    await closeFd(fd)
    await area.close()
  }
}

t.test('a new image belongs to the owner of the directory, unless the configuration names another one', { skip: !isRoot && 'needs root' }, async t => {
  const place = await fresh()
  await prepareArea(place, true)
  await chown(place.path, 1234, 2345)
  t.equal(await accessOfNew(place), '1234:2345 660')
  t.equal(await accessOfNew({ ...place, owner: { uid: 36, gid: 107 }, mode: 0o640 }), '36:107 640')
  t.equal(await accessOfNew({ ...place, mode: 0o600 }), '1234:2345 600')
})

t.test('an owner that only root can give is refused, with what to do', { skip: isRoot && 'root can' }, async t => {
  const place = await fresh()
  await prepareArea(place, true)
  await t.rejects(accessOfNew({ ...place, owner: { uid: 36, gid: 36 } }), { code: 'storage-failed', message: /36:36.*owner.*root/ })
})
