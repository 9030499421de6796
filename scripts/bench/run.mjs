// npm run bench -- copy|domain|events|http|idle [options]
// Brings what a bench needs as `npm start` and `npm test` bring theirs, builds dist unless it is fresh, and measures.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { buildUnlessFresh } from '../build.mjs'
import { needs, setUp } from '../setup.mjs'
import { say, StepError } from '../step.mjs'

/** What each bench needs besides the agent. */
const benches = {
  copy: { nbdcopy: 'libnbd-bin', fincore: 'util-linux-extra', 'mkfs.xfs': 'xfsprogs' },
  domain: { strace: 'strace' },
  events: { nginx: 'nginx', '/usr/lib/nginx/modules/ngx_nchan_module.so': 'libnginx-mod-nchan', python3: 'python3' },
  http: { wrk: 'wrk' },
  idle: {}
}

const [name, ...options] = process.argv.slice(2)
try {
  if (!Object.hasOwn(benches, name ?? '')) throw new StepError(`usage: npm run bench -- ${Object.keys(benches).join('|')} [options]`)
  await setUp({ ...needs.start, ...benches[name] })
  buildUnlessFresh()
  const bench = spawn(process.execPath, [join(import.meta.dirname, `${name}.mjs`), ...options], { stdio: 'inherit' })
  // Whatever ends it, what it has started ends with it. An interrupt it gets from the terminal itself.
  process.on('SIGINT', () => {})
  process.on('SIGTERM', () => bench.kill('SIGTERM'))
  const [status, signal] = await once(bench, 'exit')
  process.exitCode = signal === null ? status : 1
} catch (err) {
  if (!(err instanceof StepError)) throw err
  say(err.message)
  process.exitCode = 1
}
