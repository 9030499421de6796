import { constants, writeFileSync } from 'node:fs'
import { mkdir, rename, symlink, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { closeFd, look, openDirectory, openFile, openSubdirectory, readBytes, statFd, truncateFd } from '../../src/system/directory.ts'
import { hasErrno } from '../../src/system/errno.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'

const path = await temporaryDirectory(t)
const directory = await openDirectory(path)
t.teardown(async () => { await closeFd(directory.fd) })

t.test('only a regular file is opened, and nothing hangs', async t => {
  await writeFile(join(path, 'file'), 'content')
  await symlink('file', join(path, 'link'))
  await symlink('/etc/passwd', join(path, 'link-out'))
  await symlink('nowhere', join(path, 'link-dangling'))
  await mkdir(join(path, 'folder'))
  await sh('mkfifo', join(path, 'fifo'))
  const server = createServer().listen(join(path, 'socket'))
  t.teardown(() => { server.close() })

  const fd = await openFile(directory, 'file', constants.O_RDONLY)
  t.equal((await readBytes(fd, 100)).toString(), 'content')
  await closeFd(fd)
  for (const flags of [constants.O_RDONLY, constants.O_RDWR, constants.O_WRONLY | constants.O_CREAT, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC]) {
    for (const name of ['link', 'link-out', 'link-dangling', 'folder', 'fifo', 'socket']) {
      await t.rejects(openFile(directory, name, flags), { name: 'NotAFileError', message: new RegExp(name) }, `${name}, flags ${flags}`)
    }
  }
  await t.rejects(openFile(directory, 'link-dangling', constants.O_RDWR | constants.O_CREAT | constants.O_EXCL), { code: 'EEXIST' })
  await t.rejects(openFile(directory, 'nothing', constants.O_RDONLY), { code: 'ENOENT' })
  t.equal(await look(directory, 'nowhere'), undefined, 'nothing was made through the dangling link')
})

t.test('a device is refused', { skip: process.getuid?.() === 0 ? false : 'only root can make one' }, async t => {
  // the device of /dev/null; a file system may be mounted so that it cannot be opened at all, which is as good
  await sh('mknod', join(path, 'device'), 'c', '1', '3')
  for (const flags of [constants.O_RDONLY, constants.O_RDWR]) await t.rejects(openFile(directory, 'device', flags), /not a regular file|EACCES/)
})

t.test('an open directory stays the one it was, wherever its name goes', async t => {
  await mkdir(join(path, 'home'))
  writeFileSync(join(path, 'home', 'file'), 'mine')
  const home = await openDirectory(join(path, 'home'))
  t.teardown(async () => { await closeFd(home.fd) })
  await rename(join(path, 'home'), join(path, 'moved'))
  await mkdir(join(path, 'home'))
  writeFileSync(join(path, 'home', 'file'), 'not mine, and longer')
  t.equal((await look(home, 'file'))?.size, 4n)
})

t.test('a subdirectory is not reached through a link', async t => {
  await mkdir(join(path, 'inner'), { recursive: true })
  await symlink('inner', join(path, 'inner-link'))
  const inner = await openSubdirectory(directory, 'inner')
  await closeFd(inner.fd)
  t.ok(hasErrno(await openSubdirectory(directory, 'inner-link').catch((error: unknown) => error), 'ELOOP', 'ENOTDIR'))
  await t.rejects(openSubdirectory(directory, 'file'), { code: 'ENOTDIR' })
})

t.test('a look tells of the link, not of what it names', async t => {
  const link = await look(directory, 'link-out')
  t.ok(link?.isSymbolicLink())
  t.equal(await look(directory, 'nothing'), undefined)
})

t.test('the start of a file is read up to the limit, whatever its size', async t => {
  await writeFile(join(path, 'long'), 'x'.repeat(300_000))
  const fd = await openFile(directory, 'long', constants.O_RDWR)
  t.equal((await readBytes(fd, 200_000)).length, 200_000)
  t.equal((await readBytes(fd, 400_000)).length, 300_000)
  await truncateFd(fd, 0)
  t.equal((await readBytes(fd, 10)).length, 0)
  t.equal((await statFd(fd)).size, 0n)
  await closeFd(fd)
})
