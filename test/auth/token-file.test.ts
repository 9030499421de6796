import t from 'tap'
import { findToken, isExpired, lineOf, parseTokens } from '../../src/auth/token-file.ts'
import { isToken, makeToken } from '../../src/auth/token.ts'

const createdAt = new Date('2026-01-01T00:00:00Z')

t.test('what is written of a token is read again, and the token itself is not in it', async t => {
  const token = makeToken()
  const line = lineOf(token, { name: 'engine', scope: 'operate', createdAt, expiresAt: new Date('2099-01-01T00:00:00Z') })
  t.notMatch(line, token.slice(6))
  const tokens = parseTokens(`# made by hand\n\n${line}\n${lineOf(makeToken(), { name: 'other', scope: 'read', createdAt })}\n`)
  t.match(tokens, [{ name: 'engine', scope: 'operate', expiresAt: Date.UTC(2099, 0, 1) }, { name: 'other', scope: 'read' }])
  t.equal(findToken(tokens, token), tokens[0])
})

t.test('only the token itself is found', async t => {
  const token = makeToken()
  const tokens = parseTokens(lineOf(token, { name: 'a', scope: 'read', createdAt }))
  for (const wrong of ['', 'vdsmt_', makeToken(), token.slice(0, -1), `${token}A`, token.toUpperCase(), tokens[0]?.digest.toString('hex') ?? '', `${token}\n`]) {
    t.equal(findToken(tokens, wrong), undefined, JSON.stringify(wrong))
  }
  t.equal(findToken([], token), undefined)
})

t.test('a token is 256 random bits, and nothing that somebody thought up is one', async t => {
  t.equal(new Set(Array.from({ length: 1000 }, makeToken)).size, 1000)
  t.ok(isToken(makeToken()))
  for (const text of ['secret', 'vdsmt_secret', `vdsmt_${'='.repeat(43)}`]) t.notOk(isToken(text))
})

t.test('an expired token says so', async t => {
  const at = (expiresAt: string) => parseTokens(lineOf(makeToken(), { name: 'a', scope: 'read', createdAt, expiresAt: new Date(expiresAt) }))[0]
  t.equal(isExpired(at('2020-01-01T00:00:00Z') as never), true)
  t.equal(isExpired(at('2099-01-01T00:00:00Z') as never), false)
})

t.test('a wrong line is named by its number, and never shown', async t => {
  const good = JSON.parse(lineOf(makeToken(), { name: 'a', scope: 'read', createdAt })) as object
  for (const [line, message] of [
    [makeToken(), /^line 2: is not JSON/],
    ['[]', /^line 2: "name"/],
    ['null', /^line 2: is not a JSON object/],
    [JSON.stringify({ ...good, name: 'a b' }), /"name"/],
    [JSON.stringify({ ...good, scope: 'root' }), /"scope" must be one of read, operate, admin/],
    [JSON.stringify({ ...good, sha256: 'ff' }), /"sha256"/],
    [JSON.stringify({ ...good, expiresAt: 'soon' }), /"expiresAt"/],
    [JSON.stringify({ ...good, expiresAt: 5 }), /"expiresAt"/],
    [JSON.stringify({ ...good, token: 'x' }), /unknown member "token"/]
  ] as const) {
    t.throws(() => parseTokens(`# first\n${line}\n`), { message })
    try { parseTokens(`# first\n${line}\n`) } catch (error) { t.notMatch(String(error), 'vdsmt_') }
  }
  t.throws(() => parseTokens(`${JSON.stringify(good)}\n${JSON.stringify(good)}`), { message: 'two tokens are called "a"' })
})
