// A server for `events.mjs`: this agent's own stack, or the loop that one would write first.
// node events-server.mjs agent|bare DIST
import { createServer as createHttpServer } from 'node:http'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const [kind, dist] = process.argv.slice(2)

async function agent () {
  const load = async path => await import(pathToFileURL(join(dist, path)).href)
  const { Feed } = await load('events/feed.js')
  const { createServer } = await load('http/server.js')
  const { eventRoutes } = await load('http/events.js')
  const { pino } = await import('pino')
  const feed = new Feed({ instance: '5f0c9f1e', snapshot: () => [], maxStreams: 20_000 })
  const app = createServer({ log: pino({ level: 'silent' }), instance: '5f0c9f1e', allowedHosts: ['127.0.0.1'], maxBodyBytes: 65536 })
  eventRoutes(app, { feed, tasks: { find: () => undefined } })
  app.post('/publish', async request => {
    feed.transition(request.body)
    return 'published'
  })
  await app.listen({ host: '127.0.0.1', port: 0 })
  return app.server.address().port
}

async function bare () {
  const subscribers = new Set()
  const server = createHttpServer(async (request, response) => {
    if (request.method === 'GET') {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' }).flushHeaders()
      subscribers.add(response)
      response.on('close', () => subscribers.delete(response))
      return
    }
    let body = ''
    for await (const part of request) body += part
    const frame = Buffer.from(`event: task\ndata: ${body}\n\n`)
    for (const subscriber of subscribers) subscriber.write(frame)
    response.end('published')
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  return server.address().port
}

console.log(await (kind === 'agent' ? agent() : bare()))
