import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { STATUS_CODES } from 'node:http'
import t from 'tap'
import { AppError, catalogue, isErrorCode, problemOf } from '../src/errors.ts'

t.test('every code has a status of HTTP for errors, and a title of its own', async t => {
  const titles = Object.values(catalogue).map(({ title }) => title)
  t.equal(new Set(titles).size, titles.length)
  for (const [code, { status, title }] of Object.entries(catalogue)) {
    t.match(code, /^[a-z]+(-[a-z]+)*$/)
    t.ok(status >= 400 && status < 600 && STATUS_CODES[status] !== undefined, code)
    t.match(title, /^[A-Z].*[^.]$/, code)
  }
})

t.test('only codes of the catalogue are codes', async t => {
  t.equal(isErrorCode('no-space'), true)
  for (const other of ['', 'nope', 'constructor', '__proto__', 'toString']) t.equal(isErrorCode(other), false, other)
})

t.test('a problem says what the error says, with its members', async t => {
  t.same(problemOf(new AppError('no-space', 'There is no space.', { members: { bytesMissing: 5 }, cause: new Error('ENOSPC') })), {
    type: 'urn:vdsm-tasks:problem:no-space',
    title: catalogue['no-space'].title,
    status: 507,
    code: 'no-space',
    detail: 'There is no space.',
    bytesMissing: 5
  })
})

t.test('an error nobody foresaw gives nothing away', async t => {
  for (const error of [new Error('secret'), new TypeError('secret'), 'secret', { message: 'secret' }, undefined, null, Object.assign(new Error('secret'), { code: 'no-space' })]) {
    const problem = problemOf(error)
    t.match(problem, { code: 'internal', status: 500 })
    t.notMatch(JSON.stringify(problem), 'secret')
  }
})

t.test('an error keeps its cause, and whether something may have changed', async t => {
  const cause = new Error('EIO')
  t.match(new AppError('storage-failed', 'x', { cause, changed: true }), { name: 'AppError', message: 'x', cause, changed: true })
  const plain = new AppError('storage-failed', 'x')
  t.equal(plain.changed, false)
  t.strictSame(plain.members, {})
})

t.test('every code is used somewhere', async t => {
  const src = join(import.meta.dirname, '../src')
  const text = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(name => name.endsWith('.ts') && name !== 'errors.ts').map(name => readFileSync(join(src, name), 'utf8')).join('\n')
  t.same(Object.keys(catalogue).filter(code => !text.includes(`'${code}'`)), [])
})

t.test('what a terminal would obey is escaped in the detail and in every member', async t => {
  const attack = '\u001b]0;owned\u0007 \u009b31m \u202etxt'
  const safe = '\\u001b]0;owned\\u0007 \\u009b31m \\u202etxt'
  const error = new AppError('storage-failed', `qemu-img says: ${attack}`, { members: { excerpt: attack, task: { error: [attack] } } })
  t.equal(error.message, `qemu-img says: ${safe}`)
  t.match(problemOf(error), { detail: `qemu-img says: ${safe}`, excerpt: safe, task: { error: [safe] } })
})
