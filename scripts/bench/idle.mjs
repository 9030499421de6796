// What an agent with attached domains costs while nobody asks it for anything: the heartbeats of its domains, above all.
// npm run bench -- idle [--domains 1,20] [--seconds 60] [--directory DIR] [--json FILE] [--dist dist]
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const { values: options } = parseArgs({
  options: {
    domains: { type: 'string', default: '1,20' },
    seconds: { type: 'string', default: '60' },
    directory: { type: 'string', default: tmpdir() },
    json: { type: 'string' },
    dist: { type: 'string', default: join(import.meta.dirname, '../../dist') }
  }
})
/** Of the clock of /proc/PID/stat, on every architecture that Node is built for. */
const tickMs = 10
const settleSeconds = 30

const found = []
for (const count of options.domains.split(',').map(Number)) found.push(await measure(count, Number(options.seconds)))
for (const { domains, cpuMs, seconds, percent } of found) {
  process.stdout.write(`${domains} domains: ${cpuMs} ms of a processor in ${seconds} s, ${percent} %\n`)
}
if (options.json !== undefined) writeFileSync(options.json, JSON.stringify(found))

async function measure (domains, seconds) {
  const directory = mkdtempSync(join(options.directory, 'bench-idle-'))
  const config = join(directory, 'config.json')
  const places = Array.from({ length: domains }, (_, index) => ({ id: `d${index}`, path: join(directory, `d${index}`), create: true }))
  for (const { path } of places) mkdirSync(path)
  writeFileSync(config, JSON.stringify({ listen: { unix: join(directory, 'sock') }, domains: places, log: { level: 'warn' } }))
  const argv = ['--pdeathsig', 'KILL', process.execPath, join(options.dist, 'main.js'), '--config', config]
  const agent = spawn('setpriv', argv, { stdio: 'ignore' })
  const gone = once(agent, 'exit')
  try {
    await sleep(settleSeconds * 1000)
    const before = cpuOf(agent.pid)
    await sleep(seconds * 1000)
    const cpuMs = cpuOf(agent.pid) - before
    return { domains, seconds, cpuMs, percent: Number((cpuMs / seconds / 10).toFixed(1)) }
  } finally {
    agent.kill('SIGKILL')
    await gone
    rmSync(directory, { recursive: true, force: true })
  }
}

/** Milliseconds of processor time of a process and those below it, the ended ones included. */
function cpuOf (pid) {
  const processes = readdirSync('/proc').filter(name => /^\d+$/.test(name)).flatMap(name => statOf(name) ?? [])
  const sum = parent => processes.filter(process => process.parent === parent).reduce((ms, { pid, cpuMs }) => ms + cpuMs + sum(pid), 0)
  return sum(pid) + (processes.find(process => process.pid === pid)?.cpuMs ?? 0)
}

function statOf (name) {
  try {
    const text = readFileSync(`/proc/${name}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const ticks = [11, 12, 13, 14].reduce((total, index) => total + Number(fields[index]), 0)
    return { pid: Number(name), parent: Number(fields[1]), cpuMs: ticks * tickMs }
  } catch {
    // ended meanwhile
    return undefined
  }
}
