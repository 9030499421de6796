import { stripVTControlCharacters } from 'node:util'
import t, { type Test } from 'tap'
import { Client } from '../../src/client/client.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { startOnTerminal } from '../helpers/command-line.ts'

t.setTimeout(180_000)

/** A copy of which this much is done a second, on a terminal. */
async function copyOnTerminal (t: Test, { bandwidth, env = {} }: { bandwidth: string, env?: NodeJS.ProcessEnv }) {
  const { address } = await startAgent(t, await makeDirectory(t))
  const client = new Client({ url: address })
  t.teardown(async () => { await client.close() })
  const terminal = startOnTerminal(t, ['copy', 'local/sample.raw', 'local/b.raw', '--id', 'c', '--bandwidth', bandwidth], { env: { VDSM_TASKS_URL: address, ...env } })
  return { client, terminal }
}

t.test('a terminal shows a bar that moves, with rate and estimate, and in its place what came of it', async t => {
  const { terminal } = await copyOnTerminal(t, { bandwidth: '50M' })
  t.equal(await terminal.ended, 0, terminal.stdout())
  t.match(terminal.stdout(), '\x1b[36m█', 'colours')
  const text = stripVTControlCharacters(terminal.stdout())
  t.match(text, /c {2}local\/sample\.raw -> local\/b\.raw {2}█+░* +\d+ % +[\d.]+ [KM]iB\/s {2}\d+ s left/)
  t.ok(new Set(text.match(/\d+ %/g)).size > 1, 'it moves')
  t.match(text, /done {2}c {2}local\/b\.raw is complete, 256 MiB; moved [\d.]+ MiB\r\n$/)
})

t.test('NO_COLOR takes the colours away, not the bar', async t => {
  const { terminal } = await copyOnTerminal(t, { bandwidth: '100M', env: { NO_COLOR: '1' } })
  t.equal(await terminal.ended, 0)
  t.match(terminal.stdout(), '█')
  t.notMatch(terminal.stdout(), /\x1b\[\d+m/) // eslint-disable-line no-control-regex
})

t.test('Ctrl-C asks; Enter goes on watching, c cancels and waits for the end', async t => {
  const { client, terminal } = await copyOnTerminal(t, { bandwidth: '1' })
  await terminal.says(/░/)
  terminal.type('\x03')
  await terminal.says(/Cancel task c, or leave it to the agent\? .*: /)
  terminal.type('\n')
  await terminal.says(/watching: [^]*░/)
  terminal.type('\x03')
  await terminal.says(/watching: [^]*watching: /)
  terminal.type('c\n')
  t.equal(await terminal.ended, 130)
  t.match(stripVTControlCharacters(terminal.stdout()), /canceled {2}c {2}canceled; what is copied stays: vdsm-tasks mend local\/b\.raw continues it\r\n$/)
  t.equal((await client.getTask('c')).task.state, 'canceled')
})

for (const [what, typed] of [['l', 'l\n'], ['a second Ctrl-C', '\x03'], ['the end of input', '\x04']] as const) {
  t.test(`Ctrl-C, then ${what}, leaves the copy to the agent and tells how to look at it`, async t => {
    const { client, terminal } = await copyOnTerminal(t, { bandwidth: '1' })
    await terminal.says(/░/)
    terminal.type('\x03')
    await terminal.says(/watching: /)
    terminal.type(typed)
    t.equal(await terminal.ended, 130)
    t.match(terminal.stdout(), /c: the agent goes on\.\r\n {2}look: {4}vdsm-tasks task c\r\n/)
    t.equal((await client.getTask('c')).task.state, 'running')
  })
}

t.test('wait shows several bars at once, and ends when all have ended', async t => {
  const { address } = await startAgent(t, await makeDirectory(t))
  const client = new Client({ url: address })
  t.teardown(async () => { await client.close() })
  for (const id of ['many-1', 'many-2', 'many-3']) {
    await client.putTask(id, { kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image: `${id}.raw` }, bandwidth: 1 }, { waitSeconds: 30 })
  }
  const terminal = startOnTerminal(t, ['wait'], { env: { VDSM_TASKS_URL: address } })
  await terminal.says(/many-1[^\n]*░[^\n]*\n[^\n]*many-2[^\n]*░[^\n]*\n[^\n]*many-3[^\n]*░/)
  await client.cancelTask('many-2')
  await terminal.says(/canceled.*many-2/)
  for (const id of ['many-1', 'many-3']) await client.cancelTask(id)
  t.equal(await terminal.ended, 1)
  t.match(stripVTControlCharacters(terminal.stdout()), /canceled {2}many-[13] [^]*canceled {2}many-[13] /)
})
