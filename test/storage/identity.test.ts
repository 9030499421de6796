import { appendFile, chmod, mkdtemp, open, rename, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { differences, identityOf, inodeOf, isSameContent, type Identity } from '../../src/storage/identity.ts'

const directory = await mkdtemp(join(tmpdir(), 'vdsm-tasks-test-'))
t.teardown(async () => { await rm(directory, { recursive: true }) })

const path = join(directory, 'file')
const look = async (): Promise<Identity> => identityOf(await stat(path, { bigint: true }))

t.test('each way of changing a file shows in its identity', async t => {
  await writeFile(path, 'content')
  const reader = await open(path)
  t.teardown(async () => { await reader.close() })
  const first = await look()
  await reader.read(Buffer.alloc(7), 0, 7, 0)
  t.same(differences(first, await look()), [], 'reading is no change')

  await appendFile(path, '!')
  const grown = await look()
  t.ok(differences(first, grown).includes('size'))

  const { mtime } = await stat(path)
  await utimes(path, mtime, mtime)
  t.ok(differences(grown, await look()).includes('changed'), 'a time of modification that is put back')

  const calm = await look()
  await chmod(path, 0o600)
  t.same(differences(calm, await look()), ['changed'])

  await writeFile(`${path}.new`, 'content!')
  await utimes(`${path}.new`, mtime, mtime)
  await rename(`${path}.new`, path)
  t.ok(differences(calm, await look()).includes('inode'), 'another file under the same name')
})

t.test('a birth that one side cannot see is no difference', async t => {
  const with_ = { inode: '1', size: 1, modified: '1', changed: '2', born: '1' }
  const { born: _, ...without } = with_
  t.same(differences(with_, without), [])
  t.same(differences(without, with_), [])
  t.same(differences(with_, { ...with_, born: '3' }), ['born'])
  t.same(differences(with_, { inode: '2', size: 2, modified: '2', changed: '3', born: '2' }), ['inode', 'size', 'modified', 'changed', 'born'])
})

t.test('a file that was only linked, or given to another owner, has the same content; one that was written has not', async t => {
  const was = { inode: '1', size: 1, modified: '1', changed: '2', born: '1' }
  t.ok(isSameContent(was, { ...was, changed: '3' }))
  for (const now of [{ modified: '2' }, { size: 2 }, { inode: '2' }, { born: '2' }]) t.notOk(isSameContent(was, { ...was, ...now }), JSON.stringify(now))
})

t.test('nanoseconds and inode numbers beyond 2^53 keep every digit', async t => {
  const stats = Object.assign(await stat(path, { bigint: true }), { ino: 2n ** 64n - 1n, mtimeNs: 1_795_388_000_123_456_789n })
  t.match(identityOf(stats), { inode: '18446744073709551615', modified: '1795388000123456789' })
})

t.test('an inode of 2^63 or more, as every other file on GlusterFS has, is a positive number', async t => {
  const stats = await stat(path, { bigint: true })
  // what Node makes of 0x8000000000000001
  stats.ino = -9223372036854775807n
  t.equal(inodeOf(stats), '9223372036854775809')
  t.equal(identityOf(stats).inode, '9223372036854775809')
})
