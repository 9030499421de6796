// What telling an event to many subscribers costs: this agent, nginx with nchan, and a bare loop of `res.write`.
// npm run bench -- events [--subscribers 1000,5000] [--rate 50] [--seconds 8] [--rounds 3] [--servers agent,nchan,bare] [--dist dist]
// Needs nginx with nchan (apt-get install nginx libnginx-mod-nchan) and python3. Everything stays on the loopback.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'

const here = import.meta.dirname
const { values: options } = parseArgs({
  options: {
    subscribers: { type: 'string', default: '1000,5000' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '3' },
    servers: { type: 'string', default: 'agent,nchan,bare' },
    dist: { type: 'string', default: join(here, '../../dist') }
  }
})

/** Starts a server; resolves with its port, the process to be measured, and how to end it. */
async function startNode (kind) {
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, join(here, 'events-server.mjs'), kind, options.dist], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [port] = await once(createInterface(child.stdout), 'line')
  return { port, pid: child.pid, ready: kind === 'agent' ? 'event: synced' : '', stop: async () => await end(child, 'SIGKILL') }
}

async function startNchan () {
  const prefix = mkdtempSync(join(tmpdir(), 'bench-nchan-'))
  const port = await freePort()
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(name => `${name}_temp_path ${prefix}/${name};`).join(' ')
  writeFileSync(join(prefix, 'nginx.conf'), `
    load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
    daemon off; user root; worker_processes 1; pid ${prefix}/pid; error_log ${prefix}/error.log warn; worker_rlimit_nofile 20000;
    events { worker_connections 19000; }
    http {
      access_log off; ${temporary} client_body_buffer_size 64k; keepalive_requests 1000000; nchan_shared_memory_size 128M;
      server {
        listen 127.0.0.1:${port} backlog=4096;
        location = /publish { nchan_publisher http; nchan_channel_id events; nchan_message_buffer_length 4096; nchan_message_timeout 1h; }
        location = /events { nchan_subscriber eventsource; nchan_channel_id events; nchan_subscriber_first_message newest; nchan_eventsource_ping_interval 15; }
      }
    }`)
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', 'nginx', '-p', prefix, '-c', join(prefix, 'nginx.conf'), '-e', join(prefix, 'error.log')], { stdio: ['ignore', 'inherit', 'inherit'] })
  const pid = await firstChild(child.pid)
  return { port, pid, ready: '', stop: async () => { await end(child, 'SIGTERM'); rmSync(prefix, { recursive: true }) } }
}

async function end (child, signal) {
  const ended = once(child, 'exit')
  child.kill(signal)
  await ended
}

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

/** The worker that nginx forks. */
async function firstChild (pid) {
  for (let tries = 0; tries < 100; tries++) {
    const [child] = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ')
    if (child) return child
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error('nginx has started no worker')
}

async function measure (server, subscribers) {
  const { port, pid, ready, stop } = await (server === 'nchan' ? startNchan() : startNode(server))
  try {
    const load = spawn('python3', [join(here, 'events-load.py'), '--port', port, '--pid', pid, '--subscribers', subscribers, '--rate', options.rate, '--seconds', options.seconds, '--ready', ready].map(String), { stdio: ['ignore', 'pipe', 'inherit'] })
    const [line] = await Promise.race([once(createInterface(load.stdout), 'line'), once(load, 'exit').then(() => [])])
    if (line === undefined) throw new Error(`no result for ${server} with ${subscribers} subscribers`)
    return JSON.parse(line)
  } finally {
    await stop()
  }
}

function median (numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]
}

const servers = options.servers.split(',')
// undelivered: not there when three times the time had passed. The generator is not the bottleneck while its load is well below 1.
console.log(`${options.rate} events/s for ${options.seconds} s, median of ${options.rounds} rounds, servers in turn in each round`)
console.log('subscribers  server  CPU µs/event  in kernel   p50 ms   p99 ms  KiB/subscriber  undelivered  server load  generator load')
for (const subscribers of options.subscribers.split(',')) {
  const results = new Map(servers.map(server => [server, []]))
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const server of servers) results.get(server).push(await measure(server, subscribers))
  }
  for (const [server, rounds] of results) {
    const of = name => median(rounds.map(round => round[name]))
    const lost = rounds.reduce((sum, round) => sum + round.lost, 0)
    console.log([subscribers.padStart(11), server.padStart(7), of('cpuMicros').toFixed(2).padStart(13), `${(of('systemShare') * 100).toFixed(0)} %`.padStart(10), of('p50').toFixed(1).padStart(8), of('p99').toFixed(1).padStart(8), of('kibPerSubscriber').toFixed(1).padStart(15), String(lost).padStart(12), of('serverLoad').toFixed(2).padStart(12), of('loadLoad').toFixed(2).padStart(15)].join(' '))
  }
}
