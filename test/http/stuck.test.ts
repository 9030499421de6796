import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { until } from '../helpers/processes.ts'
import { endStuck, leaveToStream, type Patience } from '../../src/http/stuck.ts'

/** A server whose replies fit into no buffer of the kernel, and clients that read nothing until they are told to. */
async function serve (t: Test, patience: Patience): Promise<{ leavesTooMuch: (socket: Socket) => boolean, ask: (path: string, from?: string) => Promise<{ client: Socket, server: Socket }> }> {
  const server = createServer((request, response) => {
    if (request.url === '/stream') leaveToStream(request.socket)
    response.end(request.url === '/small' ? 'x' : Buffer.alloc(32 * 1024 * 1024))
  })
  const leavesTooMuch = endStuck(server, patience)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    leavesTooMuch,
    ask: async (path, from = '127.0.0.1') => {
      const connected = once(server, 'connection')
      const client = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', localAddress: from }).pause()
      client.on('error', () => { /* some are cut off */ })
      t.teardown(() => { client.destroy() })
      client.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      return { client, server: (await connected)[0] }
    }
  }
}

t.test('whoever takes nothing of a reply is cut off; whoever takes a little, has a stream or only idles is not', async t => {
  const { ask } = await serve(t, { afterMs: 2000, lookEveryMs: 50, maxUnreadBytes: Infinity })
  const [stuck, slow, stream, idle] = [await ask('/'), await ask('/'), await ask('/stream'), await ask('/small')]
  // for longer than the one has, with pauses shorter than that, in which the kernel's buffers get room
  const end = performance.now() + 3000
  let enough = 0
  slow.client.on('data', () => { if (slow.client.bytesRead >= enough) slow.client.pause() })
  while (performance.now() < end || !stuck.server.destroyed) {
    enough = slow.client.bytesRead + 256 * 1024
    slow.client.resume()
    await sleep(50)
  }
  slow.client.pause()
  t.same([slow, stream, idle].map(({ server }) => server.destroyed), [false, false, false])
  t.ok(slow.server.writableLength > 0, 'it was not through')
  t.ok(stream.server.writableLength > 0)
})

t.test('an address that asks for more than it reads gets no more, and has less time; others have theirs', async t => {
  const { ask, leavesTooMuch } = await serve(t, { afterMs: 60_000, lookEveryMs: 50, maxUnreadBytes: 50 * 1024 * 1024 })
  const other = await ask('/', '127.0.0.2')
  const [one, small] = [await ask('/'), await ask('/small')]
  await sleep(200)
  t.same([one, small, other].map(({ server }) => leavesTooMuch(server)), [false, false, false])
  const two = await ask('/')
  await until(() => leavesTooMuch(one.server), 'too much for one address')
  t.ok(leavesTooMuch(small.server), 'whichever connection it asks on')
  t.notOk(leavesTooMuch(other.server))
  await until(() => one.server.destroyed && two.server.destroyed, 'those that take nothing to be ended')
  await until(() => !leavesTooMuch(small.server), 'all to be well again')
  t.same([small, other].map(({ server }) => server.destroyed), [false, false])
})
