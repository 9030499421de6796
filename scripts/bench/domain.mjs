// A big domain: how long its lists, the status of an image and the accept step of a command take.
// npm run bench -- domain [--images 10000] [--done 20000] [--interrupted 1000] [--delay-us 1000] [--directory DIR]
//   [--dist dist] [--before DIST]
// With a delay, strace lets each file operation of the domain's process wait so long, as on a storage on the network. Each
// build is started anew: its first answers are cold, the second ones warm. --before DIST measures another build as well.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: {
    images: { type: 'string', default: '10000' },
    done: { type: 'string', default: '20000' },
    interrupted: { type: 'string', default: '1000' },
    'delay-us': { type: 'string', default: '1000' },
    directory: { type: 'string', default: tmpdir() },
    dist: { type: 'string', default: join(import.meta.dirname, '../../dist') },
    before: { type: 'string' }
  }
})
const temporary = mkdtempSync(join(options.directory, 'bench-domain-'))
process.once('exit', () => { rmSync(temporary, { recursive: true, force: true }) })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

const time = '2026-01-01T00:00:00.000Z'
const path = join(temporary, 'images')
const own = join(path, '.vdsm-tasks')
makeDomain()
const results = []
for (const dist of [options.before, options.dist]) if (dist !== undefined) results.push([dist, await measure(dist)])
print()

function makeDomain () {
  for (const room of ['copies', 'leases', 'parts']) mkdirSync(join(own, room), { recursive: true })
  writeFileSync(join(own, 'domain.json'), '{"id":"big"}')
  // file systems allow a file only so many names
  for (let at = 0; at < Number(options.images); at++) {
    const image = join(path, name('image', at))
    if (at % 10_000 === 0) writeFileSync(image, Buffer.alloc(4096))
    else linkSync(join(path, name('image', at - at % 10_000)), image)
  }
  for (let at = 0; at < Number(options.done); at++) writeRecord(name('image', at), { phase: 'done', completedAt: time })
  for (let at = 0; at < Number(options.interrupted); at++) writeRecord(name('part', at), { phase: 'copying', inode: '1' })
  writeFileSync(join(path, 'source.raw'), Buffer.alloc(1 << 20))
}

function name (kind, at) { return `${kind}-${String(at).padStart(6, '0')}.raw` }

function writeRecord (image, more) {
  const identity = { inode: '12', size: 4096, modified: '1767225600000000000', changed: '1767225600000000000' }
  const record = {
    version: 1,
    copyId: '0b6c0b0e-5a3f-4e0e-9f5e-2f6a3c1d4e5f',
    domain: 'big',
    image,
    format: 'raw',
    allocation: 'sparse',
    virtualSize: 4096,
    verify: false,
    windowBytes: 67_108_864,
    done: [[0, 4096]],
    begun: [[0, 4096]],
    bytesMoved: 4096,
    source: { domain: 'big', virtualSize: 4096, files: [{ image: 'source.raw', format: 'raw', identity }] },
    epoch: 1,
    host: { id: 'node1' },
    taskId: `task-${image}`,
    createdAt: time,
    checkpointAt: time,
    ...more
  }
  writeFileSync(join(own, 'copies', `${image}.json`), JSON.stringify(record))
}

async function measure (dist) {
  const socket = join(temporary, 'agent.sock')
  const config = join(temporary, 'config.json')
  writeFileSync(config, JSON.stringify({ listen: { unix: socket }, domains: [{ id: 'big', path }], log: { level: 'error' } }))
  const agent = spawn(process.execPath, [join(dist, 'main.js'), '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  let strace
  try {
    await once(agent.stderr, 'data')
    const domain = childOf(agent.pid)
    if (Number(options['delay-us']) > 0) strace = await slowDown(domain)
    const timed = async (method, address, body) => {
      const begin = performance.now()
      const status = await ask(socket, method, address, body)
      return { ms: Math.round(performance.now() - begin), status }
    }
    const reads = {
      'first page of images': '/domains/big/images',
      'first page of copies': '/domains/big/copies',
      'first page of fixes': '/domains/big/fixes',
      'status of an image': `/domains/big/images/${name('image', 77)}`,
      'copies of a task': `/domains/big/copies?taskId=task-${name('image', Number(options.done) - 1)}`
    }
    const found = {}
    for (const round of ['cold', 'warm']) {
      for (const [what, address] of Object.entries(reads)) found[`${what}, ${round}`] = await timed('GET', address)
      const copy = { kind: 'storage.copyImage', source: { domain: 'big', image: 'source.raw' }, target: { domain: 'big', image: `${round}.raw` } }
      found[`copy accepted, ${round}`] = await timed('PUT', `/tasks/${round}`, copy)
      // what was seen is told for a second, and what has just changed is looked at again for two
      await sleep(3000)
    }
    found['memory of the domain process, MiB'] = { ms: Math.round(residentKiB(domain) / 1024), status: '' }
    return found
  } finally {
    strace?.kill('SIGTERM')
    agent.kill('SIGKILL')
    await once(agent, 'exit')
    for (const made of ['cold', 'warm']) for (const file of [join(path, `${made}.raw`), join(own, 'copies', `${made}.raw.json`)]) rmSync(file, { force: true })
  }
}

function childOf (pid) {
  const children = execFileSync('pgrep', ['-P', String(pid)], { encoding: 'utf8' }).trim().split('\n').map(Number)
  const domain = children.find(child => readFileSync(`/proc/${child}/cmdline`, 'utf8').includes('storage/domain'))
  if (domain === undefined) throw new Error('the agent has no domain process')
  return domain
}

/** Attaches strace to every thread, and to those that come. Resolves when it has. */
async function slowDown (pid) {
  const calls = '/^(open|openat|statx|newfstatat|fstat|lstat|stat|read|pread64|getdents64|close|readlink|statfs|flock)$'
  // not the reads of pipes and timers, which no storage answers
  const strace = spawn('strace', ['-f', '-q', '-p', String(pid), '-e', `trace=${calls}`, '-P', path, '-e', `inject=${calls}:delay_enter=${options['delay-us']}`, '-o', '/dev/null'], { stdio: 'inherit' })
  const threads = readdirSync(`/proc/${pid}/task`)
  while (!threads.every(thread => /TracerPid:\s+[1-9]/.test(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')))) await sleep(50)
  return strace
}

function residentKiB (pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
}

async function ask (socketPath, method, address, body) {
  const headers = { host: 'localhost', 'content-type': 'application/json', ...(method === 'PUT' && { prefer: 'wait=60' }) }
  const sent = request({ socketPath, method, path: address, headers })
  sent.end(body === undefined ? undefined : JSON.stringify(body))
  const [response] = await once(sent, 'response')
  let text = ''
  for await (const piece of response.setEncoding('utf8')) text += piece
  if (response.statusCode >= 300) process.stderr.write(`${method} ${address}: ${text}\n`)
  return response.statusCode
}

function print () {
  const rows = Object.keys(results.at(-1)[1])
  process.stdout.write(`${options.images} images, ${options.done} complete and ${options.interrupted} interrupted copies, ${options['delay-us']} us for each file operation; ms\n`)
  for (const row of rows) {
    const cells = results.map(([, found]) => `${found[row].ms} ${found[row].status}`.trim().padStart(12))
    const ratio = results.length === 2 ? (results[1][1][row].ms / results[0][1][row].ms).toFixed(3).padStart(8) : ''
    process.stdout.write(`${row.padEnd(36)}${cells.join('')}${ratio}\n`)
  }
}
