// Opens connections to a port and leaves them idle, in a process of its own: node idle-connections.mjs PORT COUNT SLOW
// COUNT have asked something once and stay; SLOW send the headers or the body of a request a byte at a time, for ever.
import { connect } from 'node:net'
import process from 'node:process'

const [port, count, slow] = process.argv.slice(2).map(Number)
let open = 0
let ended = 0

function idle () {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write('GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n')
  return new Promise(resolve => {
    socket.once('data', () => {
      open++
      socket.once('close', () => { open-- })
      resolve()
    })
    socket.once('close', resolve)
  })
}

function crawl (start) {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.write(start)
  const timer = setInterval(() => { socket.write('x') }, 100)
  socket.resume()
  socket.once('close', () => { clearInterval(timer); ended++ })
}

for (let done = 0; done < count; done += 100) await Promise.all(Array.from({ length: Math.min(100, count - done) }, idle))
for (let number = 0; number < slow; number++) {
  crawl(number % 2 === 0 ? 'GET /tasks HTTP/1.1\r\nHost: localhost\r\nX-Slow: ' : 'PUT /tasks/slow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n')
}
process.send('ready')
process.on('message', () => { process.send({ open, ended }) })
process.once('disconnect', () => process.exit())
