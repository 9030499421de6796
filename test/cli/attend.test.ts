import { stripVTControlCharacters } from 'node:util'
import t, { type Test } from 'tap'
import { Client } from '../../src/client/client.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { startOnTerminal } from '../helpers/command-line.ts'

t.setTimeout(120_000)

/** One agent for all: each copy has a target of its own. */
const { address } = await startAgent(t, await makeDirectory(t), { copy: { maxConcurrent: 16 } })
const client = new Client({ url: address })
t.teardown(async () => { await client.close() })
let copies = 0

/** A copy of which this much is done a second, on a terminal. */
function copyOnTerminal (t: Test, { bandwidth, env = {} }: { bandwidth: string, env?: NodeJS.ProcessEnv }) {
  const id = `c${++copies}`
  const terminal = startOnTerminal(t, ['copy', 'local/sample.raw', `local/${id}.raw`, '--id', id, '--bandwidth', bandwidth], { env: { VDSM_TASKS_URL: address, ...env } })
  return { id, terminal }
}

t.test('a terminal shows a bar that moves, with rate and estimate, and in its place what came of it', async t => {
  const { id, terminal } = copyOnTerminal(t, { bandwidth: '50M' })
  t.equal(await terminal.ended, 0, terminal.stdout())
  t.match(terminal.stdout(), '\x1b[36m█', 'colours')
  const text = stripVTControlCharacters(terminal.stdout())
  t.match(text, new RegExp(`${id}  local/sample\\.raw -> local/${id}\\.raw  █+░* +\\d+ % +[\\d.]+ [KM]iB/s  \\d+ s left`))
  t.ok(new Set(text.match(/\d+ %/g)).size > 1, 'it moves')
  t.match(text, new RegExp(`done  ${id}  local/${id}\\.raw is complete, 256 MiB; moved [\\d.]+ MiB\r\n$`))
})

t.test('NO_COLOR takes the colours away, not the bar', async t => {
  const { terminal } = copyOnTerminal(t, { bandwidth: '100M', env: { NO_COLOR: '1' } })
  t.equal(await terminal.ended, 0)
  t.match(terminal.stdout(), '█')
  t.notMatch(terminal.stdout(), /\x1b\[\d+m/) // eslint-disable-line no-control-regex
})

t.test('Ctrl-C asks; Enter goes on watching, c cancels and waits for the end', async t => {
  const { id, terminal } = copyOnTerminal(t, { bandwidth: '1' })
  await terminal.says(/░/)
  terminal.type('\x03')
  await terminal.says(/Cancel task c\d+, or leave it to the agent\? .*: /)
  terminal.type('\n')
  await terminal.says(/watching: [^]*░/)
  terminal.type('\x03')
  await terminal.says(/watching: [^]*watching: /)
  terminal.type('c\n')
  t.equal(await terminal.ended, 130)
  t.match(stripVTControlCharacters(terminal.stdout()), new RegExp(`canceled  ${id}  canceled; what is copied stays: vdsm-tasks mend local/${id}\\.raw continues it\r\n$`))
  t.equal((await client.getTask(id)).task.state, 'canceled')
})

for (const [what, typed] of [['l', 'l\n'], ['a second Ctrl-C', '\x03'], ['the end of input', '\x04']] as const) {
  t.test(`Ctrl-C, then ${what}, leaves the copy to the agent and tells how to look at it`, async t => {
    const { id, terminal } = copyOnTerminal(t, { bandwidth: '1' })
    await terminal.says(/░/)
    terminal.type('\x03')
    await terminal.says(/watching: /)
    terminal.type(typed)
    t.equal(await terminal.ended, 130)
    t.match(terminal.stdout(), `${id}: the agent goes on.\r\n  look:    vdsm-tasks task ${id}\r\n`)
    t.equal((await client.getTask(id)).task.state, 'running')
  })
}

t.test('wait shows several bars at once, and ends when all have ended', async t => {
  const ids = ['many-1', 'many-2', 'many-3']
  for (const id of ids) {
    await client.putTask(id, { kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image: `${id}.raw` }, bandwidth: 1 }, { waitSeconds: 30 })
  }
  const terminal = startOnTerminal(t, ['wait'], { env: { VDSM_TASKS_URL: address } })
  await terminal.says(/many-1[^\n]*░[^\n]*\n[^\n]*many-2[^\n]*░[^\n]*\n[^\n]*many-3[^\n]*░/)
  await client.cancelTask('many-2')
  await terminal.says(/canceled.*many-2/)
  // those that were left above, too
  for (const { id } of (await client.listTasks({ state: ['active'] })).items) await client.cancelTask(id)
  t.equal(await terminal.ended, 1)
  t.match(stripVTControlCharacters(terminal.stdout()), /canceled {2}many-[13] [^]*canceled {2}many-[13] /)
  // the ^C of a terminal stands behind the last bar: it must not break that line
  for (const line of stripVTControlCharacters(terminal.stdout()).split(/\r?\n|\r/)) if (/[█░]/.test(line)) t.ok(line.length <= 97, line)
})
