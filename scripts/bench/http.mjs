// What a request costs beside a bare Fastify route that sends the same bytes, and what the agent costs when nobody asks.
// npm run bench -- http [--seconds 1] [--rounds 9] [--connections 16] [--subscribers 0,1000] [--requests GET,join,create,list] [--starts 9] [--parts requests,start,idle] [--json FILE] [--svg FILE] [--dist dist]
// Needs wrk (apt-get install wrk). Everything stays on the loopback. With two cores or more, the servers have one and wrk has another.
import { execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { chart } from './chart.mjs'

const here = import.meta.dirname
const { values: options } = parseArgs({
  options: {
    // whole ones: wrk knows no others
    seconds: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '9' },
    connections: { type: 'string', default: '16' },
    subscribers: { type: 'string', default: '0,1000' },
    requests: { type: 'string', default: 'GET,join,create,list' },
    starts: { type: 'string', default: '9' },
    parts: { type: 'string', default: 'requests,start,idle' },
    json: { type: 'string' },
    svg: { type: 'string' },
    dist: { type: 'string', default: join(here, '../../dist') }
  }
})
const temporary = mkdtempSync(join(tmpdir(), 'bench-http-'))
process.once('exit', () => rmSync(temporary, { recursive: true, force: true }))
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

const copyTo = image => ({ kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image } })

/** What is asked, as a script for wrk. A body that `n` is put into makes every request another task. */
const requests = {
  GET: script({ method: 'GET', path: '/tasks/held-0' }),
  join: script({ method: 'PUT', path: '/tasks/held-0', body: copyTo('held-0.qcow2') }),
  create: script({ method: 'PUT', path: '/tasks/new-%d', body: copyTo('new-%d.qcow2') }),
  list: script({ method: 'GET', path: '/tasks' })
}

function script ({ method, path, body }) {
  const format = body === undefined
    ? `wrk.format('${method}', '${path}')`
    : `wrk.format('${method}', string.format('${path}', n), headers, string.format('${JSON.stringify(body)}', n))`
  return `
    local n = os.time() * 1000000
    local headers = { ['Content-Type'] = 'application/json' }
    local same
    function request ()
      n = n + 1
      ${path.includes('%d')
? `return ${format}`
: `same = same or ${format}
      return same`}
    end
    function done (summary, latency)
      local errors = summary.errors
      print(string.format('{"requests":%d,"micros":%d,"p99Micros":%d,"failed":%d}', summary.requests, summary.duration, latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
    end`
}

/** Starts a process of ours that speaks over a channel; its first message is passed to `ready`. It ends with the channel. */
function start (file, ...args) {
  const child = fork(join(here, file), args, { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const ended = once(child, 'exit')
  const message = async () => (await Promise.race([once(child, 'message'), ended.then(() => { throw new Error(`${file} has ended`) })]))[0]
  return { pid: child.pid, send: what => child.send(what), message, stop: async () => { child.disconnect(); await ended } }
}

/** The agent's stack with a hundred tasks that stay, and the bare server, which is told what the agent has sent. */
async function startServers () {
  const agent = start('http-server.mjs', 'agent', options.dist)
  const { port } = await agent.message()
  const ask = async (path, spec) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, spec && { method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(spec) })
    const body = await response.text()
    if (!response.ok) throw new Error(`${path}: ${response.status} ${body}`)
    // these every server adds by itself
    const headers = [...response.headers].filter(([name]) => !['connection', 'content-length', 'date', 'keep-alive'].includes(name))
    return { status: response.status, headers: Object.fromEntries(headers), body }
  }
  const putHeld = async n => await ask(`/tasks/held-${n}`, copyTo(`held-${n}.qcow2`))
  for (let n = 0; n < 100; n++) await putHeld(n)
  const bare = start('http-server.mjs', 'bare')
  bare.send({ read: await ask('/tasks/held-0'), joined: await putHeld(0), created: await ask('/tasks/new', copyTo('new.qcow2')), list: await ask('/tasks') })
  const servers = [{ name: 'agent', port, ...agent }, { name: 'bare', ...await bare.message(), ...bare }]
  if (wrkCore !== undefined) for (const { pid } of servers) execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', serverCore, String(pid)])
  return servers
}

// Where the scheduler happens to put a server and who wakes it makes up to a fifth of its requests per second, another fifth in each run.
const [serverCore, wrkCore] = allowedCores()

/** The cores that this process may use. */
function allowedCores () {
  const [, list] = /^Cpus_allowed_list:\s+(.*)$/m.exec(readFileSync('/proc/self/status', 'utf8'))
  return list.split(',').flatMap(range => {
    const [first, last = first] = range.split('-').map(Number)
    return Array.from({ length: last - first + 1 }, (_, n) => String(first + n))
  })
}

function cpuSeconds (pid) {
  const [, fields] = /\) (.*)$/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  const [user, system] = fields.split(' ').slice(11)
  return (Number(user) + Number(system)) / 100
}

function residentMiB (pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]) / 1024
}

/** One run of wrk. */
async function measure ({ pid, port }, request) {
  const file = join(temporary, 'request.lua')
  writeFileSync(file, requests[request])
  const cpuBefore = cpuSeconds(pid)
  const [program, ...before] = wrkCore !== undefined ? ['taskset', '--cpu-list', wrkCore, 'wrk'] : ['wrk']
  const wrk = spawn(program, [...before, '-t1', `-c${options.connections}`, `-d${options.seconds}s`, '--timeout', '10s', '-s', file, `http://127.0.0.1:${port}`], { stdio: ['ignore', 'pipe', 'inherit'] })
  let result
  for await (const line of createInterface(wrk.stdout)) if (line.startsWith('{')) result = JSON.parse(line)
  if (result === undefined) throw new Error('wrk has said nothing')
  if (result.failed > 0) throw new Error(`${result.failed} of ${result.requests} requests failed (${request})`)
  return {
    perSecond: result.requests / result.micros * 1e6,
    cpuMicros: (cpuSeconds(pid) - cpuBefore) / result.requests * 1e6,
    p99Millis: result.p99Micros / 1000
  }
}

function median (numbers) {
  return numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)]
}

/** Medians of all rounds, servers in turn in each; the ratios are those of a round, which other load on the machine hits alike. */
async function compare (servers, request, rounds) {
  const results = Object.fromEntries(servers.map(({ name }) => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const server of round % 2 === 0 ? servers : servers.toReversed()) results[server.name].push(await measure(server, request))
  }
  const { agent, bare } = results
  const of = (rounds, name) => median(rounds.map(round => round[name]))
  const medians = rounds => ({ perSecond: of(rounds, 'perSecond'), cpuMicros: of(rounds, 'cpuMicros'), p99Millis: of(rounds, 'p99Millis') })
  return {
    agent: medians(agent),
    bare: medians(bare),
    ratio: median(agent.map(({ perSecond }, round) => perSecond / bare[round].perSecond)),
    cpuRatio: median(agent.map(({ cpuMicros }, round) => bare[round].cpuMicros / cpuMicros))
  }
}

function row (...cells) {
  console.log(cells.map(([cell, width]) => (typeof cell === 'number' ? cell.toFixed(cell >= 1000 ? 0 : 2) : cell).padStart(width)).join('  '))
}

async function compareRequests () {
  const names = options.requests.split(',')
  const servers = await startServers()
  const [agent] = servers
  const table = []
  console.log(`${options.connections} connections, ${options.seconds} s each, medians of ${options.rounds} rounds, servers in turn; ratios are bare to agent, above 1 the agent is better`)
  row(['subscribers', 11], ['request', 7], ['agent req/s', 11], ['bare req/s', 10], ['ratio', 5], ['agent CPU µs', 12], ['bare CPU µs', 11], ['ratio', 5], ['agent p99 ms', 12], ['bare p99 ms', 11], ['cut off', 7])
  try {
    // until everything is compiled
    for (const name of names) await compare(servers, name, 1)
    for (const subscribers of options.subscribers.split(',').map(Number)) {
      const readers = start('http-subscribers.mjs', agent.port, subscribers)
      await readers.message()
      for (const request of names) {
        const { agent: ours, bare, ratio, cpuRatio } = await compare(servers, request, Number(options.rounds))
        agent.send('count')
        const { dropped } = await agent.message()
        table.push({ subscribers, request, agent: ours, bare, ratio, cpuRatio, cutOff: dropped })
        row([String(subscribers), 11], [request, 7], [ours.perSecond, 11], [bare.perSecond, 10], [ratio, 5], [ours.cpuMicros, 12], [bare.cpuMicros, 11], [cpuRatio, 5], [ours.p99Millis, 12], [bare.p99Millis, 11], [String(dropped), 7])
      }
      await readers.stop()
    }
  } finally {
    for (const { stop } of servers) await stop()
  }
  return table
}

/** The agent as it is installed. Resolves when it listens, which its log says. */
async function startAgent () {
  const directory = mkdtempSync(join(temporary, 'agent-'))
  const config = join(directory, 'config.json')
  writeFileSync(config, JSON.stringify({ listen: { port: 0 }, domains: [{ id: 'local', path: './images', create: true, sample: true }] }))
  const begin = performance.now()
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', process.execPath, join(options.dist, 'main.js'), '--config', config], { stdio: ['ignore', 'pipe', 'pipe'] })
  const ended = once(child, 'exit')
  const lines = createInterface(child.stdout)
  const address = await new Promise((resolve, reject) => {
    lines.on('line', line => {
      const [, found] = /"msg":"listening on (.*?)"/.exec(line) ?? []
      if (found !== undefined) resolve(found)
    })
    ended.then(() => reject(new Error('the agent has ended')))
  })
  const listeningMs = performance.now() - begin
  const cpuMs = cpuSeconds(child.pid) * 1000
  // the welcome: its domain is there, and it has nothing more to do
  if (child.stderr.readableLength === 0) await once(child.stderr, 'data')
  child.stderr.resume()
  return { pid: child.pid, port: new URL(address).port, listeningMs, cpuMs, stop: async () => { child.kill('SIGTERM'); await ended } }
}

async function measureStart () {
  const times = []
  const cpu = []
  const empty = []
  for (let n = 0; n < Number(options.starts); n++) {
    const begin = performance.now()
    execFileSync(process.execPath, ['-e', ''])
    empty.push(performance.now() - begin)
    const agent = await startAgent()
    times.push(agent.listeningMs)
    cpu.push(agent.cpuMs)
    await agent.stop()
  }
  const result = { listeningMs: median(times), leastMs: Math.min(...times), cpuMs: median(cpu), emptyNodeMs: median(empty) }
  // CPU time tells more than the clock when the machine has other work
  console.log(`start to listening: ${result.listeningMs.toFixed(0)} ms, median of ${times.length} (least ${result.leastMs.toFixed(0)}, CPU ${result.cpuMs.toFixed(0)}; an empty Node process takes ${result.emptyNodeMs.toFixed(0)})`)
  return result
}

/** Memory and CPU of the agent and of the process of its domain while nobody asks for anything. */
async function measureIdle () {
  const agent = await startAgent()
  const table = []
  row(['subscribers', 11], ['agent MiB', 9], ['agent CPU %', 11], ['domain MiB', 10], ['domain CPU %', 12])
  try {
    const [domain] = readFileSync(`/proc/${agent.pid}/task/${agent.pid}/children`, 'utf8').split(' ')
    const pids = [agent.pid, domain]
    for (const subscribers of options.subscribers.split(',').map(Number)) {
      const readers = start('http-subscribers.mjs', agent.port, subscribers)
      await readers.message()
      await sleep(1000)
      const before = pids.map(cpuSeconds)
      // a heartbeat of the streams lies within
      await sleep(16_000)
      const [ours, its] = pids.map((pid, n) => ({ mib: residentMiB(pid), cpuPercent: (cpuSeconds(pid) - before[n]) / 16 * 100 }))
      table.push({ subscribers, agent: ours, domain: its })
      row([String(subscribers), 11], [ours.mib, 9], [ours.cpuPercent, 11], [its.mib, 10], [its.cpuPercent, 12])
      await readers.stop()
    }
  } finally {
    await agent.stop()
  }
  return table
}

const measurements = { requests: compareRequests, start: measureStart, idle: measureIdle }
const result = {}
for (const part of options.parts.split(',')) result[part] = await measurements[part]()
if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify({ node: process.version, options, ...result }, undefined, 2)}\n`)
if (options.svg !== undefined && result.requests !== undefined) {
  writeFileSync(options.svg, chart('Requests in a second, beside a bare route that sends the same bytes', result.requests.map(({ subscribers, request, agent, bare }) => ({
    name: `${request}, ${subscribers} subscribers`,
    values: { agent: Math.round(agent.perSecond), bare: Math.round(bare.perSecond) },
    unit: '/s'
  }))))
}
