// A copy by the agent beside the tools that cannot resume: time until the data is durable, memory, page cache.
// npm run bench -- copy [--runs 5] [--cases raw-raw,qcow2-qcow2,raw-qcow2,qcow2-raw,sparse,small,clone] [--size-mib 4096] [--directory DIR] [--config '{"copy":{...}}'] [--json FILE] [--svg FILE] [--dist dist]
// --before DIST measures another build in turn with this one, and nothing else, and tells the processor time of each, which
// says more than the clock on a machine that others use, too; with --most RATIO a case in which this build
// takes more than that of the other one's time ends the bench with status 1.
// Needs nbdcopy (apt-get install libnbd-bin), xfsprogs and, for the clone, root. Within a case the tools take turns, so
// that what slows the machine down slows all of them; the source is in the page cache, as it is after the first run.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { chart } from './chart.mjs'

const here = import.meta.dirname
const { values: options } = parseArgs({
  options: {
    runs: { type: 'string', default: '5' },
    cases: { type: 'string', default: 'raw-raw,qcow2-qcow2,raw-qcow2,qcow2-raw,sparse,small,clone' },
    'size-mib': { type: 'string', default: '4096' },
    directory: { type: 'string', default: tmpdir() },
    config: { type: 'string', default: '{}' },
    json: { type: 'string' },
    svg: { type: 'string' },
    dist: { type: 'string', default: join(here, '../../dist') },
    before: { type: 'string' },
    most: { type: 'string', default: 'Infinity' }
  }
})
const MiB = 1024 * 1024
const size = Number(options['size-mib']) * MiB
const temporary = mkdtempSync(join(options.directory, 'bench-copy-'))
const images = join(temporary, 'images')
const volume = join(temporary, 'volume')
const undo = [() => rmSync(temporary, { recursive: true, force: true })]
process.once('exit', () => { for (const step of undo.reverse()) step() })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1))

function sh (...[program, ...args]) {
  return execFileSync(program, args, { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8', maxBuffer: 64 * MiB })
}

/** A disk with data here and there, so many bytes of it: pieces of 1 to 32 MiB, never the same bytes twice. */
function makeDisk (path, bytes, dataBytes) {
  const block = Buffer.alloc(MiB)
  for (let i = 0; i < MiB; i++) block[i] = Math.imul(i, 2654435761) >>> 13
  const fd = openSync(path, 'w')
  ftruncateSync(fd, bytes)
  const blocks = bytes / MiB
  const density = dataBytes / bytes
  let left = dataBytes / MiB
  for (let at = 0, n = 0; at < blocks && left > 0; n++) {
    const piece = Math.min(1 + (n * 7) % 32, left, blocks - at)
    for (let i = 0; i < piece; i++) {
      block.writeUInt32LE(at + i, 0)
      writeSync(fd, block, 0, MiB, (at + i) * MiB)
    }
    left -= piece
    at += Math.round(piece / density)
  }
  closeSync(fd)
  sh('sync', '-d', path)
}

/** Takes what is durable of a file out of the page cache. */
function evict (path) {
  sh('dd', 'if=/dev/null', `of=${path}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0', 'status=none')
}

function cachedBytes (path) {
  return Number(sh('fincore', '-b', '-n', '-o', 'RES', path).trim())
}

function formatOf (path) {
  return path.endsWith('.raw') ? 'raw' : 'qcow2'
}

// ---- the tools

const virtualSize = path => JSON.parse(sh('qemu-img', 'info', '--output=json', '-f', formatOf(path), path))['virtual-size']
const make = (source, target) => sh('qemu-img', 'create', '-q', '-f', formatOf(target), target, String(virtualSize(source)))
const nbd = path => formatOf(path) === 'raw' ? [path] : ['[', 'qemu-nbd', '-f', 'qcow2', path, ']']

/** Each prepares nothing and returns the programs to be run one after the other. */
const tools = {
  cp: (source, target) => [['cp', source, target], ['sync', '-d', target]],
  'cp --reflink=always': (source, target) => [['cp', '--reflink=always', source, target], ['sync', target]],
  'qemu-img convert': (source, target) => [['qemu-img', 'convert', '-f', formatOf(source), '-O', formatOf(target), source, target], ['sync', '-d', target]],
  'qemu-img convert -W -m 16': (source, target) => [['qemu-img', 'convert', '-W', '-m', '16', '-f', formatOf(source), '-O', formatOf(target), source, target], ['sync', '-d', target]],
  'nbdcopy --flush': (source, target) => [() => make(source, target), ['nbdcopy', '--flush', '--target-is-zero', '--', ...nbd(source), ...nbd(target)], ['sync', '-d', target]],
  'qemu-img convert -t none -T none': (source, target) => [['qemu-img', 'convert', '-t', 'none', '-T', 'none', '-f', formatOf(source), '-O', formatOf(target), source, target], ['sync', '-d', target]]
}
const resumable = 'vdsm-tasks'
const before = 'vdsm-tasks before'
const isAgent = tool => tool === resumable || tool === before

async function runTool (name, source, target) {
  const start = performance.now()
  for (const step of tools[name](source, target)) {
    if (typeof step === 'function') {
      step()
      continue
    }
    const [program, ...args] = step
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    const [status] = await once(child, 'exit')
    if (status !== 0) throw new Error(`${step.join(' ')}: status ${status}`)
  }
  return performance.now() - start
}

// ---- the agent

async function startAgent (dist, hostId) {
  const config = join(temporary, `${hostId}.json`)
  const domains = [{ id: 'images', path: images, create: true }, { id: 'volume', path: join(volume, 'images'), create: true }]
  writeFileSync(config, JSON.stringify({ listen: { port: 0 }, hostId, domains: cases.includes('clone') ? domains : domains.slice(0, 1), log: { level: 'warn' }, ...JSON.parse(options.config) }))
  const agent = spawn(process.execPath, [join(dist, 'main.js'), '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  undo.push(() => agent.kill('SIGKILL'))
  for await (const line of createInterface(agent.stderr)) {
    const url = /listens on (http:\S+)/.exec(line)?.[1]
    if (url === undefined) continue
    agent.stderr.resume()
    return { pid: agent.pid, url }
  }
  throw new Error('the agent did not start')
}

let copies = 0

/** Has the agent do something and resolves with the milliseconds until it was done. */
async function command ({ url }, body) {
  const task = `${url}/tasks/bench-${++copies}`
  const start = performance.now()
  let reply = await fetch(task, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })
  while (reply.ok) {
    const { state, error } = await reply.json()
    if (state === 'succeeded') return performance.now() - start
    if (!['pending', 'running'].includes(state)) throw new Error(JSON.stringify(error))
    reply = await fetch(task, { headers: { prefer: 'wait=60' } })
  }
  throw new Error(await reply.text())
}

const runAgent = async (agent, domain, source, target) => await command(agent, { kind: 'storage.copyImage', source: { domain, image: source }, target: { domain, image: target } })
const forget = async (agent, domain, image) => { await command(agent, { kind: 'storage.deleteImage', domain, image }) }

/** Peak resident memory (MiB) of the agent and of what it starts, by role, while a copy runs. */
function watchMemory (pid) {
  const peaks = {}
  const look = (pid, role) => {
    try {
      const kiB = Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
      if (!Number.isNaN(kiB)) peaks[role] = Math.max(peaks[role] ?? 0, Math.round(kiB / 1024))
      for (const child of readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean)) {
        const command = readFileSync(`/proc/${child}/cmdline`, 'utf8')
        const found = [['storage/domain', 'domain process'], ['storage/copy', 'copy worker'], ['qemu-img\0', 'qemu-img']].find(([mark]) => command.includes(mark))
        look(child, found?.[1] ?? 'others')
      }
    } catch { /* it has ended */ }
  }
  const timer = setInterval(() => look(pid, 'agent'), 20)
  return () => { clearInterval(timer); return peaks }
}

/** Seconds of processor time that a process and all that it has waited for have taken. */
function cpuSeconds (pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ')
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) / 100
}

// ---- the cases

function median (values) {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]
}

const plain = ['qemu-img convert', 'qemu-img convert -W -m 16', 'nbdcopy --flush']
const toolsOf = name => options.before !== undefined ? [before] : name === 'clone' ? ['cp --reflink=always'] : ['raw-raw', 'qcow2-qcow2', 'sparse', 'small'].includes(name) ? ['cp', ...plain] : plain

async function measure (agents, name) {
  const [from, to] = name.includes('-') ? name.split('-') : ['raw', 'raw']
  const clone = name === 'clone'
  const [domain, directory] = clone ? ['volume', join(volume, 'images')] : ['images', images]
  const source = join(directory, `${clone ? 'sparse' : ['sparse', 'small'].includes(name) ? name : 'disk'}.${from}`)
  const names = [resumable, ...toolsOf(name)]
  const times = Object.fromEntries(names.map(name => [name, []]))
  const cached = {}
  const target = join(directory, `target.${to}`)
  const copyBy = async tool => {
    rmSync(target, { force: true })
    sh('sync')
    return isAgent(tool) ? await runAgent(agents[tool], domain, source.slice(directory.length + 1), `target.${to}`) : await runTool(tool, source, target)
  }
  const clean = async tool => { if (isAgent(tool)) await forget(agents[tool], domain, `target.${to}`) }
  let memory
  const cpuBefore = Object.fromEntries(Object.entries(agents).map(([tool, { pid }]) => [tool, cpuSeconds(pid)]))
  for (let run = 0; run < Number(options.runs); run++) {
    // whoever is first finds the disk as whoever was last has left it
    for (const tool of run % 2 === 0 ? names : [...names].reverse()) {
      sh('dd', `if=${source}`, 'of=/dev/null', 'bs=4M', 'status=none', ...(name === 'sparse' || clone ? ['count=1'] : []))
      const stop = tool === resumable ? watchMemory(agents[tool].pid) : () => memory
      times[tool].push(await copyBy(tool))
      memory = stop()
      await clean(tool)
    }
  }
  // the last worker is to be waited for
  await sleep(1000)
  const cpu = Object.fromEntries(Object.entries(agents).map(([tool, { pid }]) => [tool, (cpuSeconds(pid) - cpuBefore[tool]) / Number(options.runs)]))
  if (!clone && options.before === undefined) {
    for (const tool of [...names, 'qemu-img convert -t none -T none']) {
      evict(source)
      await copyBy(tool)
      cached[tool] = { source: cachedBytes(source), target: cachedBytes(target) }
      await clean(tool)
    }
  }
  await copyBy(resumable)
  // its status is 1 when they differ, and that is thrown
  sh('qemu-img', 'compare', '-f', from, '-F', to, source, target)
  await clean(resumable)
  rmSync(target, { force: true })
  const medians = Object.fromEntries(names.map(tool => [tool, Math.round(median(times[tool]))]))
  const fastest = Math.min(...toolsOf(name).map(tool => medians[tool]))
  return { name, medians, ratio: medians[resumable] / fastest, times, cached, memory, cpu }
}

function print ({ name, medians, ratio, cached, memory, cpu }) {
  console.log(`\n${name}: ${ratio.toFixed(3)} of the time of ${options.before === undefined ? 'the fastest of the others' : 'the other build'}`)
  for (const [tool, ms] of Object.entries(medians)) {
    const left = cached[tool]
    console.log(`  ${tool.padEnd(34)} ${String(ms).padStart(7)} ms${left === undefined ? '' : `   left in the page cache: source ${Math.round(left.source / MiB)} MiB, target ${Math.round(left.target / MiB)} MiB`}`)
  }
  if (options.before !== undefined) console.log(`  processor time of a copy and its deletion: ${Object.entries(cpu).map(([tool, seconds]) => `${tool} ${seconds.toFixed(2)} s`).join(', ')}: ${(cpu[resumable] / cpu[before]).toFixed(3)}`)
  const direct = cached['qemu-img convert -t none -T none']
  if (direct !== undefined) console.log(`  ${'(qemu-img convert -t none -T none)'.padEnd(34)} ${''.padStart(10)}   left in the page cache: source ${Math.round(direct.source / MiB)} MiB, target ${Math.round(direct.target / MiB)} MiB`)
  console.log(`  peak memory: ${Object.entries(memory).map(([role, MiB]) => `${role} ${MiB} MiB`).join(', ')}`)
}

const cases = options.cases.split(',')
mkdirSync(images)
if (cases.includes('clone')) {
  mkdirSync(volume)
  sh('truncate', '-s', '8G', join(temporary, 'volume.img'))
  sh('mkfs.xfs', '-q', '-m', 'reflink=1', join(temporary, 'volume.img'))
  sh('mount', '-o', 'loop', join(temporary, 'volume.img'), volume)
  undo.push(() => sh('umount', '-l', volume))
}
const agents = {
  [resumable]: await startAgent(options.dist, 'this'),
  ...options.before !== undefined && { [before]: await startAgent(options.before, 'before') }
}
const results = []
if (cases.some(name => !['sparse', 'small', 'clone'].includes(name))) {
  makeDisk(join(images, 'disk.raw'), size, size / 2)
  sh('qemu-img', 'convert', '-O', 'qcow2', join(images, 'disk.raw'), join(images, 'disk.qcow2'))
  sh('sync')
}
if (cases.includes('sparse')) makeDisk(join(images, 'sparse.raw'), 100 * 1024 * MiB, 1024 * MiB)
if (cases.includes('small')) makeDisk(join(images, 'small.raw'), 64 * MiB, 32 * MiB)
if (cases.includes('clone')) makeDisk(join(volume, 'images/sparse.raw'), 100 * 1024 * MiB, 1024 * MiB)
// a source that was just written is looked at again before it is trusted
await sleep(2500)
for (const name of cases) {
  const result = await measure(agents, name)
  results.push(result)
  print(result)
}
if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(results, undefined, 2) + '\n')
if (options.svg !== undefined) writeFileSync(options.svg, chart('Time of a durable copy, beside the fastest other tool', results.map(({ name, medians }) => ({ name, values: medians }))))
process.exit(results.some(({ ratio }) => options.before !== undefined && ratio > Number(options.most)) ? 1 : 0)
