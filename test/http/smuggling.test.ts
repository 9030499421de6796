import t from 'tap'
import { copyOf, startAgent } from '../helpers/http-agent.ts'
import { exchange } from '../helpers/http-client.ts'

const { port, bodies, client } = await startAgent(t)

const command = JSON.stringify(copyOf('a.raw', 'b.raw'))
const smuggled = `PUT /tasks/smuggled HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nPrefer: respond-async\r\nContent-Length: ${command.length}\r\n\r\n${command}`
const head = 'GET /tasks HTTP/1.1\r\nHost: localhost\r\n'

/** Requests that a proxy before the agent might cut at another place than the agent. Each has one more hidden in it. */
const tricks: Record<string, string> = {
  'length and chunks': `${head}Content-Length: ${5 + smuggled.length}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'chunks and length': `${head}Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n${smuggled}`,
  'two lengths': `${head}Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  'a list of lengths': `${head}Content-Length: 0, ${smuggled.length}\r\n\r\n${smuggled}`,
  'a length with a sign': `${head}Content-Length: +0\r\n\r\n${smuggled}`,
  'a length below zero': `${head}Content-Length: -1\r\n\r\n${smuggled}`,
  'a length in hexadecimal': `${head}Content-Length: 0x0\r\n\r\n${smuggled}`,
  'another coding': `${head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a coding behind chunks': `${head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
  'a vertical tab before the coding': `${head}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a space before the colon': `${head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
  'a header that goes on in the next line': `${head}X: y\r\n Transfer-Encoding: chunked\r\nContent-Length : ${smuggled.length}\r\n\r\n${smuggled}`,
  'lines that end with a newline alone': `${head.replaceAll('\r\n', '\n')}Content-Length: 0\n\n${smuggled}`,
  'lines that end with a carriage return alone': `${head}X: y\rContent-Length: ${smuggled.length}\r\n\r\n${smuggled}`,
  'a null byte': `${head}X: \0\r\n\r\n${smuggled}`,
  'a chunk that is longer than a number': `${head}Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n0\r\n\r\n${smuggled}`,
  'a chunk without an end': `${head}Transfer-Encoding: chunked\r\n\r\n1\r\nZZ0\r\n\r\n${smuggled}`,
  'a chunk of no size': `${head}Transfer-Encoding: chunked\r\n\r\n\r\n\r\n${smuggled}`,
  'an unknown version': `GET /tasks HTTP/9.9\r\nHost: localhost\r\n\r\n${smuggled}`,
  'a target with a space': `GET /tasks HTTP/1.1 HTTP/1.1\r\nHost: localhost\r\n\r\n${smuggled}`
}

t.test('what is cut at an unclear place is refused, with all that comes behind it', async t => {
  for (const [what, bytes] of Object.entries(tricks)) {
    const got = await exchange({ port }, bytes)
    // the head of one is in order, and the flaw comes later: then it is answered, and ends the connection
    t.match(got, what === 'a chunk without an end' ? /^HTTP\/1\.1 200 / : /^HTTP\/1\.1 400 /, what)
    t.equal(got.match(/HTTP\/1\.1 /g)?.length, 1, `${what}: one answer`)
  }
  t.equal(bodies.all.length, 0, 'nothing of it was done')
  t.equal((await client.get('/tasks/smuggled')).status, 404)
})

t.test('requests that follow one another clearly are answered in their order', async t => {
  const got = await exchange({ port }, `${head}\r\nPOST /tasks HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\n{"a\r\n0\r\nHost: evil.example\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
  t.same([...got.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status), ['200', '405', '404'])
})
