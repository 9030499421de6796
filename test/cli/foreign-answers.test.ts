import type { RequestListener } from 'node:http'
import t from 'tap'
import { runHere } from '../helpers/command-session.ts'
import { startForeignServer } from '../helpers/foreign-server.ts'

t.setTimeout(120_000)

const html = '<!doctype html>\n<title>Log in</title>\n<p>Please log in.'
const answers: ReadonlyArray<readonly [name: string, answer: RequestListener, said: RegExp]> = [
  ['a redirect', (_, response) => { response.writeHead(302, { location: 'https://sso.example/login' }).end() }, /came with status 302 and a redirect to https:\/\/sso\.example\/login/],
  ['a page', (_, response) => { response.writeHead(200, { 'content-type': 'text/html' }).end(html) }, /status 200 and text\/html: <!doctype html>\\u000a/],
  ['a page that is called JSON', (_, response) => { response.writeHead(200, { 'content-type': 'application/json' }).end(html) }, /status 200 and application\/json: <!doctype/],
  ['half of an answer', (_, response) => { response.writeHead(200, { 'content-type': 'application/json' }).end('{"items":[{"domain":"lo') }, /only a part of its answer, came with status 200/],
  ['an empty answer', (_, response) => { response.writeHead(200, { 'content-type': 'application/json' }).end() }, /came with status 200/],
  ['nothing', (_, response) => { response.writeHead(204).end() }, /came with status 204/],
  ['a list', (_, response) => { response.writeHead(200, { 'content-type': 'application/json' }).end('[1]') }, /came with status 200/],
  ['JSON of another program', (_, response) => { response.writeHead(200, { 'content-type': 'application/json' }).end('{"error":null}') }, /./],
  ['half of a problem', (_, response) => { response.writeHead(409, { 'content-type': 'application/problem+json' }).end('{"type":"urn') }, /came with status 409/],
  ['a problem of another program', (_, response) => { response.writeHead(403, { 'content-type': 'application/problem+json' }).end('{"title":"no"}') }, /came with status 403/],
  ['a page of a proxy', (_, response) => { response.writeHead(502, { 'content-type': 'text/html' }).end(html) }, /came with status 502/],
  ['a line that breaks', (_, response) => { response.writeHead(200, { 'content-type': 'application/json', 'content-length': 100 }).write('{', () => { response.destroy() }) }, /cannot be reached: /]
]
const commands = [['info'], ['domains'], ['images'], ['status', 'a/b'], ['fixes'], ['tasks'], ['task', 't'], ['wait', 't'], ['cancel', 't'], ['operations'], ['copy', 'a/b', 'a/c', '--patience', '0'], ['events', '--patience', '0']]

for (const [name, answer, said] of answers) {
  t.test(`${name} instead of an answer is one line`, async t => {
    const env = { VDSM_TASKS_URL: await startForeignServer(t, answer) }
    for (const command of commands) {
      const { status, stdout, stderr } = await runHere(command, { env })
      const what = command.join(' ')
      if (name !== 'JSON of another program') t.match(status, name.includes('409') ? 4 : /^[134]$/, what)
      t.match(stderr + stdout, said, what)
      t.ok(stderr.split('\n').length <= 2, `${what}: ${stderr}`)
      t.notMatch(stderr + stdout, /^ +at /m, what)
    }
    const { status, stdout } = await runHere(['domains', '--json'], { env })
    t.not(status, 0)
    t.match(JSON.parse(stdout), { code: /^(foreign-answer|unreachable|unexpected)$/, detail: /\S/ }, 'programs get a problem')
  })
}
