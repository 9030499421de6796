import { chmod, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { Credentials } from '../../src/auth/credentials.ts'
import { lineOf } from '../../src/auth/token-file.ts'
import { makeToken } from '../../src/auth/token.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { sh } from '../helpers/images.ts'

const directory = await temporaryDirectory(t)
const tokensFile = join(directory, 'tokens')
const config = { tokensFile, clients: [] }
const createdAt = new Date()
const line = (name: string, token: string, more: { expiresAt?: Date } = {}) => lineOf(token, { name, scope: 'operate', createdAt, ...more })
const put = async (...lines: string[]) => { await writeFile(tokensFile, lines.join('\n')) }

/** Who somebody with this session is, or the code of the refusal. */
const who = (credentials: Credentials, sessionKey: string): string => {
  try {
    return credentials.identify({ authorization: undefined, sessionKey, socket: new Socket(), overUnixSocket: false }).who
  } catch (error) {
    return (error as { code: string }).code
  }
}

t.test('a session is worth what its token is worth, and not what another one of that name is', async t => {
  const [old, other] = [makeToken(), makeToken()]
  await put(line('ops', old), line('other', other))
  const credentials = new Credentials(config)
  const { key } = credentials.logIn(old)
  t.equal(who(credentials, key), 'ops')
  await put(line('ops', makeToken()), line('other', other))
  t.strictSame(credentials.reload(config), [])
  t.equal(who(credentials, key), 'unauthenticated', 'the token was taken back, and its name given to another')
  await put(line('renamed', old))
  t.strictSame(credentials.reload(config), [])
  t.equal(who(credentials, key), 'renamed', 'the same token is the same token')
  await put(line('ops', old, { expiresAt: new Date('2020-01-01') }))
  t.strictSame(credentials.reload(config), [])
  t.equal(who(credentials, key), 'unauthenticated', 'its time is over')
})

t.test('who logs in without end ends only sessions of his own', async t => {
  const [mine, theirs] = [makeToken(), makeToken()]
  await put(line('mine', mine), line('theirs', theirs))
  const credentials = new Credentials(config)
  const { key } = credentials.logIn(theirs)
  const keys = Array.from({ length: 150 }, () => credentials.logIn(mine).key)
  t.equal(new Set(keys).size, 150)
  t.equal(who(credentials, key), 'theirs')
  t.equal(keys.filter(key => who(credentials, key) === 'mine').length, 100)
  t.equal(who(credentials, keys.at(-1) ?? ''), 'mine')
  credentials.logOut(key)
  t.equal(who(credentials, key), 'unauthenticated')
})

t.test('authentication begins and ends with a restart only', async t => {
  await put(line('a', makeToken()))
  const [inForce, notInForce] = [new Credentials(config), new Credentials({ clients: [] })]
  t.match(inForce.reload({ clients: [] }), [/ends only with a restart/])
  t.equal(inForce.required, true)
  t.equal(inForce.takesTokens, false, 'nobody is accepted meanwhile')
  t.match(notInForce.reload(config), [/begins only with a restart/])
  t.equal(notInForce.required, false)
})

t.test('a tokens file that everybody may write, or that is no file, is not read', async t => {
  await put(line('a', makeToken()))
  await chmod(tokensFile, 0o602)
  t.throws(() => new Credentials(config), /every user of this host may write/)
  await chmod(tokensFile, 0o660)
  t.ok(new Credentials(config))
  const pipe = join(directory, 'pipe')
  await sh('mkfifo', pipe)
  t.throws(() => new Credentials({ ...config, tokensFile: pipe }), /is not a regular file/)
  t.throws(() => new Credentials({ ...config, tokensFile: directory }), /is not a regular file/)
})
