import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import type { Feed } from '../../src/events/feed.ts'

/** Serves a feed at a free port; a subscriber's address is what its header `from` says. */
export async function serveFeed (t: Test, feed: Feed, host: string): Promise<number> {
  const server = createServer(({ headers }, response) => {
    feed.listen({ response, headers: { 'Agent-Instance': 'here' }, address: headers.from, start: feed.locate(undefined) }, {})
  })
  server.listen(0, host)
  await once(server, 'listening')
  t.teardown(async () => {
    await feed.close()
    server.closeAllConnections()
    server.close()
    await once(server, 'close')
  })
  return (server.address() as AddressInfo).port
}
