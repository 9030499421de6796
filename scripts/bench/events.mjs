// What telling an event to many subscribers costs: this agent, nginx with nchan, and a bare loop of `res.write`.
// npm run bench -- events [--subscribers 1000,5000] [--rate 50] [--seconds 8] [--rounds 3] [--servers agent,nchan,bare] [--json FILE] [--svg FILE] [--dist dist]
// Needs nginx with nchan (apt-get install nginx libnginx-mod-nchan) and python3. Everything stays on the loopback.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { parseArgs } from 'node:util'
import { chart } from './chart.mjs'

const here = import.meta.dirname
const { values: options } = parseArgs({
  options: {
    subscribers: { type: 'string', default: '1000,5000' },
    rate: { type: 'string', default: '50' },
    seconds: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '3' },
    servers: { type: 'string', default: 'agent,nchan,bare' },
    json: { type: 'string' },
    svg: { type: 'string' },
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

/** The medians of all rounds; what was lost in any of them counts. */
function summarize (rounds) {
  const { lost: _, ...first } = rounds[0]
  return { ...Object.fromEntries(Object.keys(first).map(name => [name, median(rounds.map(round => round[name]))])), lost: rounds.reduce((sum, { lost }) => sum + lost, 0) }
}

function row (...cells) {
  console.log(cells.map(([cell, width]) => String(cell).padStart(width)).join('  '))
}

const servers = options.servers.split(',')
const table = []
// undelivered: not there when three times the time had passed. The generator is not the bottleneck while its load is well below 1.
console.log(`${options.rate} events/s for ${options.seconds} s, median of ${options.rounds} rounds, servers in turn in each round`)
row(['subscribers', 11], ['server', 6], ['CPU µs/event', 12], ['to agent', 8], ['in kernel', 9], ['p50 ms', 7], ['p99 ms', 7], ['KiB/subscriber', 14], ['undelivered', 11], ['server load', 11], ['generator load', 14])
for (const subscribers of options.subscribers.split(',')) {
  const results = new Map(servers.map(server => [server, []]))
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const server of round % 2 === 0 ? servers : servers.toReversed()) results.get(server).push(await measure(server, subscribers))
  }
  for (const [server, rounds] of results) {
    // the ratios are those of a round, which other load on the machine hits alike
    const ours = results.get('agent')
    const ratio = ours === undefined ? NaN : median(rounds.map(({ cpuMicros }, round) => cpuMicros / ours[round].cpuMicros))
    const result = { subscribers: Number(subscribers), server, ...summarize(rounds), ratio }
    table.push(result)
    row([subscribers, 11], [server, 6], [result.cpuMicros.toFixed(2), 12], [ratio.toFixed(2), 8], [`${(result.systemShare * 100).toFixed(0)} %`, 9], [result.p50.toFixed(1), 7], [result.p99.toFixed(1), 7], [result.kibPerSubscriber.toFixed(1), 14], [result.lost, 11], [result.serverLoad.toFixed(2), 11], [result.loadLoad.toFixed(2), 14])
  }
}
if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ node: process.version, options, table }, undefined, 2)}\n`)
if (options.svg !== undefined) {
  const counts = [...new Set(table.map(({ subscribers }) => subscribers))]
  const groups = [['CPU of an event', 'cpuMicros', 'µs'], ['p99', 'p99', 'ms']].flatMap(([what, key, unit]) => counts.map(count => ({
    name: `${what}, ${count} subscribers`,
    values: Object.fromEntries(table.filter(({ subscribers }) => subscribers === count).map(result => [result.server, Number(result[key].toFixed(2))])),
    unit
  })))
  writeFileSync(options.svg, chart('An event for many subscribers', groups))
}
