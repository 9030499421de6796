// Subscribers of `http.mjs`: they read and throw away. node http-subscribers.mjs PORT COUNT, forked; says when all are there.
import { once } from 'node:events'
import { connect } from 'node:net'

const [port, count] = process.argv.slice(2).map(Number)
process.once('disconnect', () => process.exit())

// one buffer for all: what is read is not looked at
const buffer = Buffer.alloc(1 << 20)
for (let begun = 0; begun < count; begun += 100) {
  await Promise.all(Array.from({ length: Math.min(100, count - begun) }, async () => {
    let subscribed
    const there = new Promise(resolve => { subscribed = resolve })
    const socket = connect({ port, host: '127.0.0.1', onread: { buffer, callback: () => subscribed() } })
    socket.on('error', () => {}) // cut off: the server counts those
    await once(socket, 'connect')
    socket.write('GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n')
    await there
  }))
}
process.send('subscribed')
