import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { freeSocketPath } from '../../src/http/socket.ts'
import { temporaryDirectory } from '../helpers/directory.ts'

t.test('a path where nothing is stays so', async t => {
  const path = join(await temporaryDirectory(t), 'a.sock')
  await freeSocketPath(path)
  t.equal(existsSync(path), false)
})

t.test('the socket of a process that was killed is removed', async t => {
  const path = join(await temporaryDirectory(t), 'a.sock')
  const child = spawn(process.execPath, ['-e', `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('listening'))`], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  child.kill('SIGKILL')
  await once(child, 'exit')
  t.equal(existsSync(path), true)
  await freeSocketPath(path)
  t.equal(existsSync(path), false)
})

t.test('the socket of a living process is left alone', async t => {
  const path = join(await temporaryDirectory(t), 'a.sock')
  const server = createServer().listen(path)
  t.teardown(() => { server.close() })
  await once(server, 'listening')
  await t.rejects(freeSocketPath(path), { message: `Another process listens on ${path}.` })
  t.equal(existsSync(path), true)
})

t.test('what is no socket is left alone', async t => {
  const directory = t.testdir({ file: 'precious', dir: {} })
  symlinkSync('file', join(directory, 'link'))
  for (const name of ['file', 'dir', 'link']) {
    await t.rejects(freeSocketPath(join(directory, name)), { message: /is not a socket/ }, name)
    t.equal(existsSync(join(directory, name)), true)
  }
  writeFileSync(join(directory, 'file'), 'still precious')
  await t.rejects(freeSocketPath(join(directory, 'file', 'x')), { code: 'ENOTDIR' })
})
