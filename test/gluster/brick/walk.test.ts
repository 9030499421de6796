import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { walkBrick } from '../../../src/gluster/brick/walk.ts'
import { sh } from '../../helpers/images.ts'
import { unlessRoot } from '../../helpers/mount-space.ts'

async function newBrick (t: Test): Promise<string> {
  const root = await mkdtemp('/var/tmp/vdsm-tasks-test-')
  t.teardown(async () => { await rm(root, { recursive: true }) })
  for (const directory of ['.glusterfs', '.shard', 'd', 'd/empty', 'd/.glusterfs']) await mkdir(join(root, directory))
  await writeFile(join(root, '.glusterfs/health_check'), 'ours')
  return root
}

/** What DHT leaves on a brick for a file that is on another. */
async function makeLink (path: string): Promise<void> {
  await writeFile(path, '')
  await chmod(path, 0o1000)
  await sh('setfattr', '-n', 'trusted.glusterfs.dht.linkto', '-v', 'v0-client-0', path)
}

t.test('directories and what is in Gluster\'s own directory are no files', async t => {
  const root = await newBrick(t)
  t.strictSame(await walkBrick(root, () => {}), { files: 0, directories: 5, links: 0, halfMoved: 0, examples: [] })
})

t.test('every file is counted, whatever it is, and some are named', async t => {
  const root = await newBrick(t)
  await writeFile(join(root, '.shard/1'), 'a shard')
  await symlink('/nowhere', join(root, 'd/link'))
  await sh('mkfifo', join(root, 'd/fifo'))
  // a directory of a user's may have any name
  await writeFile(join(root, 'd/.glusterfs/file'), '')
  await writeFile(Buffer.concat([Buffer.from(`${root}/d/`), Buffer.from([0xff, 0xfe])]), 'no UTF-8')
  await writeFile(join(root, 'd/new\nline'), 'x')
  let answers = 0
  const { files, links, examples } = await walkBrick(root, () => { answers++ })
  t.equal(files, 6)
  t.equal(links, 0)
  t.equal(examples.length, 3)
  t.ok(examples.every(path => path.startsWith('/')))
  t.ok(answers > 0)
})

t.test('a file in a directory whose name is no UTF-8 is found', async t => {
  const root = await newBrick(t)
  const directory = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff])])
  await mkdir(directory)
  await writeFile(Buffer.concat([directory, Buffer.from('/file')]), 'x')
  t.match(await walkBrick(root, () => {}), { files: 1, directories: 6 })
})

t.test('a link file of DHT is told from a user\'s file that looks like one', { skip: unlessRoot }, async t => {
  const root = await newBrick(t)
  for (let index = 0; index < 150; index++) await makeLink(join(root, 'd', `link${index}`))
  await makeLink(Buffer.concat([Buffer.from(`${root}/d/`), Buffer.from('ü\n')]).toString())
  await writeFile(join(root, 'd/sticky'), '')
  await chmod(join(root, 'd/sticky'), 0o1000)
  // in the middle of being moved: it has the attribute, and the data
  await makeLink(join(root, 'd/moving'))
  await writeFile(join(root, 'd/moving'), 'data')
  await makeLink(join(root, 'd/moving-too'))
  await chmod(join(root, 'd/moving-too'), 0o7640)
  t.match(await walkBrick(root, () => {}), { files: 3, links: 151 })
})

t.test('a directory that cannot be read is an error, not an empty one', async t => {
  const root = await newBrick(t)
  await symlink(root, `${root}-link`)
  t.teardown(async () => { await rm(`${root}-link`) })
  await t.rejects(walkBrick(join(root, 'd/empty/file'), () => {}).then(({ directories }) => { if (directories === 0) throw new Error('nothing') }))
  await writeFile(join(root, 'file'), '')
  await t.rejects(walkBrick(join(root, 'file'), () => {}), { code: 'ENOTDIR' })
})
