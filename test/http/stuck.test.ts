import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { endStuck, leaveToStream } from '../../src/http/stuck.ts'

/** A server whose replies fit into no buffer of the kernel, and clients that read nothing until they are told to. */
async function serve (t: Test): Promise<{ ask: (path: string) => Promise<{ client: Socket, server: Socket }> }> {
  const server = createServer((request, response) => {
    if (request.url === '/stream') leaveToStream(request.socket)
    response.end(request.url === '/small' ? 'x' : Buffer.alloc(32 * 1024 * 1024))
  })
  endStuck(server, { afterMs: 500, lookEveryMs: 50 })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    ask: async path => {
      const connected = once(server, 'connection')
      const client = connect((server.address() as AddressInfo).port, '127.0.0.1').pause()
      client.on('error', () => { /* some are cut off */ })
      t.teardown(() => { client.destroy() })
      client.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      return { client, server: (await connected)[0] }
    }
  }
}

t.test('whoever takes nothing of a reply is cut off; whoever takes a little, has a stream or only idles is not', async t => {
  const { ask } = await serve(t)
  const [stuck, slow, stream, idle] = [await ask('/'), await ask('/'), await ask('/stream'), await ask('/small')]
  // for longer than the one has, with pauses shorter than that, in which the kernel's buffers get room
  const end = performance.now() + 800
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
