import { readdirSync, readFileSync, statSync } from 'node:fs'
import { link, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { closeFd, openDirectory } from '../../src/system/directory.ts'
import { linkFile, makeDirectory, removeFile, replaceFile } from '../../src/system/durable.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { callsOf, runUntilCall } from '../helpers/kill-at-call.ts'

t.setTimeout(300_000)

const path = await temporaryDirectory(t)
const directory = await openDirectory(path)
t.teardown(async () => { await closeFd(directory.fd) })
const replacer = fileURLToPath(new URL('../helpers/replace-file.mjs', import.meta.url))

t.test('a file is replaced as a whole, and nothing is left beside it', async t => {
  await replaceFile(directory, 'a', 'a.new', 'one')
  await replaceFile(directory, 'a', 'a.new', '')
  t.equal(await readFile(join(path, 'a'), 'utf8'), '')
  const long = 'ä'.repeat(3_000_000)
  await writeFile(join(path, 'a.new'), 'what a crash has left, and longer than '.repeat(1000))
  await replaceFile(directory, 'a', 'a.new', long)
  t.ok(await readFile(join(path, 'a'), 'utf8') === long)
  await replaceFile(directory, 'a', 'a.new', 'short')
  t.equal(await readFile(join(path, 'a'), 'utf8'), 'short')
  t.same(await readdir(path), ['a'])
  t.equal(statSync(join(path, 'a')).mode & 0o007, 0, 'not for everybody')
})

t.test('what has the name of the temporary file is removed, and nothing is written through it', async t => {
  await writeFile(join(path, 'victim'), 'victim')
  for (const [name, trap] of [['link.new', symlink], ['hard.new', link]] as const) {
    await trap(join(path, 'victim'), join(path, name))
    await replaceFile(directory, 'trapped', name, 'new', { mode: 0o660 })
    t.equal(await readFile(join(path, 'trapped'), 'utf8'), 'new')
    t.equal(await readFile(join(path, 'victim'), 'utf8'), 'victim')
    await t.rejects(readFile(join(path, name)), { code: 'ENOENT' })
  }
})

t.test('a replacement that fails leaves the old file', async t => {
  await replaceFile(directory, 'old', 'old.new', 'old')
  await mkdir(join(path, 'in-the-way', 'x'), { recursive: true })
  await t.rejects(replaceFile(directory, 'in-the-way', 'old.new', 'new'))
  t.equal(await readFile(join(path, 'old'), 'utf8'), 'old')
  t.notOk(readdirSync(path).includes('old.new'))
})

t.test('killed before any of its steps, a replacement leaves the old content or the new', async t => {
  const before = 'old '.repeat(50_000)
  const after = 'new and longer '.repeat(50_000)
  await replaceFile(directory, 'killed', 'killed.new', before)
  const argv = [process.execPath, replacer, path, 'killed', after.slice(0, 15), '50000']
  const calls = (await callsOf(argv)).filter(({ name }) => name !== 'mkdir')
  t.match(calls.map(({ name }) => name), ['fsync', 'rename', 'fsync'], 'the order that survives a crash')
  t.equal(readFileSync(join(path, 'killed'), 'utf8'), after)

  const seen: string[] = []
  for (const call of calls) {
    await replaceFile(directory, 'killed', 'killed.new', before)
    t.equal(await runUntilCall(argv, call), 'SIGKILL', `${call.name} ${call.number} was hit`)
    const content = readFileSync(join(path, 'killed'), 'utf8')
    t.ok(content === before || content === after, `whole before ${call.name} ${call.number}`)
    seen.push(content === before ? 'old' : 'new')
    t.ok(readdirSync(path).every(name => !name.startsWith('killed') || name === 'killed' || name === 'killed.new'))
  }
  t.same(seen, ['old', 'old', 'new'])
})

t.test('a second name never replaces a file, and a file may have it already', async t => {
  await mkdir(join(path, 'from'))
  await mkdir(join(path, 'to'))
  const from = await openDirectory(join(path, 'from'))
  const to = await openDirectory(join(path, 'to'))
  t.teardown(async () => { await Promise.all([from, to].map(async ({ fd }) => { await closeFd(fd) })) })
  await writeFile(join(path, 'from', 'part'), 'part')
  await writeFile(join(path, 'to', 'taken'), 'taken')
  await symlink('nowhere', join(path, 'to', 'dangling'))
  for (const name of ['taken', 'dangling']) await t.rejects(linkFile(from, 'part', to, name), { code: 'EEXIST' })
  await linkFile(from, 'part', to, 'free')
  await linkFile(from, 'part', to, 'free')
  t.equal(await readFile(join(path, 'to', 'free'), 'utf8'), 'part')
  t.ok(await removeFile(from, 'part'))
  t.notOk(await removeFile(from, 'part'))
  t.equal(await readFile(join(path, 'to', 'free'), 'utf8'), 'part')
  t.equal(await readFile(join(path, 'to', 'taken'), 'utf8'), 'taken')
})

t.test('a directory is made once and found again', async t => {
  await makeDirectory(directory, 'made')
  await makeDirectory(directory, 'made')
  t.ok(statSync(join(path, 'made')).isDirectory())
  await writeFile(join(path, 'a-file'), '')
  await makeDirectory(directory, 'a-file')
  t.notOk(statSync(join(path, 'a-file')).isDirectory(), 'whoever opens it as a directory is told')
})
