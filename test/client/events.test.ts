import { createServer } from 'node:http'
import { once } from 'node:events'
import t from 'tap'
import { Client } from '../../src/client/client.ts'
import { freePort, makeDirectory, startAgent } from '../helpers/built-agent.ts'

t.setTimeout(120_000)

t.test('heartbeats move the cursor: a narrow filter needs no reset after a long silence', async t => {
  const directory = await makeDirectory(t)
  // an agent that remembers little and beats every second
  const agent = await startAgent(t, directory, { events: { history: 8, heartbeatSeconds: 1 } })
  const target = new URL(agent.address)
  const cursors: Array<string | string[] | undefined> = []
  let line: { destroy (): void } | undefined
  // a proxy that sees the cursors and the heartbeats, and can cut the line
  let beats = 0
  const proxy = createServer((request, response) => {
    const headers = { ...request.headers, host: target.host }
    void fetch(new URL(request.url ?? '/', target), { headers: Object.entries(headers).map(([name, value]) => [name, String(value)] as [string, string]).filter(([name]) => name !== 'connection') }).then(async answer => {
      cursors.push(request.headers['last-event-id'])
      line = response
      response.writeHead(answer.status, { 'content-type': 'text/event-stream' })
      if (answer.body === null) return
      for await (const chunk of answer.body) {
        if (Buffer.from(chunk).toString().includes(':\nid: ')) beats++
        if (!response.write(chunk)) await once(response, 'drain')
      }
    }).catch(() => { response.destroy() })
  }).listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  t.teardown(() => { proxy.closeAllConnections(); proxy.close() })
  const address = proxy.address()
  const client = new Client({ url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` })
  const direct = new Client({ url: agent.address })
  t.teardown(async () => { await client.close(); await direct.close() })

  const words: string[] = []
  const lost: string[] = []
  const over = new AbortController()
  for await (const event of client.events({ type: ['task'], idPrefix: 'mine', signal: over.signal, onLost: error => { lost.push(error.name) } })) {
    words.push(event.event)
    if (words.length === 2) break
    // events that the filter holds back, more than are remembered; then a heartbeat behind them; then the line is cut
    for (const size of [512, 1024, 1536]) {
      await direct.putTask(`other-${size}`, { kind: 'storage.createImage', domain: 'local', image: `${size}.raw`, virtualSize: size })
      await direct.waitForTask(`other-${size}`)
    }
    const before = beats
    const cut = setInterval(() => {
      if (beats < before + 2) return
      clearInterval(cut)
      line?.destroy()
    }, 20)
    t.teardown(() => { clearInterval(cut) })
  }
  t.same(words, ['synced', 'synced'], 'no reset')
  t.same(lost, ['UnreachableError'], 'the loss was told')
  t.equal(cursors[0], undefined)
  t.match(cursors[1], /-[1-9]\d*$/)
})

t.test('a connection that cannot be made is told, each time, and given up by the signal', async t => {
  const client = new Client({ url: `http://127.0.0.1:${await freePort()}` })
  t.teardown(async () => { await client.close() })
  const over = new AbortController()
  const lost: string[] = []
  const onLost = (error: Error) => {
    lost.push(error.name)
    if (lost.length === 2) over.abort()
  }
  for await (const event of client.events({ signal: over.signal, onLost })) t.fail(event.event)
  t.same(lost, ['UnreachableError', 'UnreachableError'])
})

t.test('a token is sent with every request', async t => {
  const seen: Array<string | undefined> = []
  const server = createServer(({ headers }, response) => {
    seen.push(headers.authorization)
    response.setHeader('content-type', 'text/event-stream').end('event: synced\ndata: {"instance":"i"}\n\n')
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
  for (const client of [new Client({ url, token: 'secret' }), new Client({ url })]) {
    t.match(await client.events().next(), { value: { event: 'synced' } })
    await client.close()
  }
  t.same(seen, ['Bearer secret', undefined])
})

t.test('with the client what it follows and waits for ends', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => { server.close() })
  const address = server.address()
  const client = new Client({ url: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` })
  const asked = once(server, 'request')
  const waiting = t.rejects(client.waitForTask('a'), { name: 'UnreachableError' })
  await asked
  const opened = once(server, 'request')
  const following = (async () => {
    for await (const event of client.events({ onLost: () => { t.fail('nothing is lost') } })) t.fail(event.event)
  })()
  await opened
  await client.close()
  await Promise.all([waiting, following])
})
