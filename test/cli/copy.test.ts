import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { inCommands } from '../../src/cli/glossary.ts'
import { Client } from '../../src/client/client.ts'
import { freePort, makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { runCommand, startCommand } from '../helpers/command-line.ts'

t.setTimeout(180_000)

/** For all that neither kill it nor need it as it was. */
const { address, directory } = await startAgent(t, await makeDirectory(t))

t.test('a copy in a pipe: plain lines, the result on standard output, then the stored result and the complete copy', async t => {
  const env = { VDSM_TASKS_URL: address }
  const first = await runCommand(t, ['copy', 'local/sample.raw', 'local/a.qcow2', '--verify', '--id', 'one'], { env })
  t.equal(first.status, 0, first.stderr)
  t.match(first.stdout, /^done {2}one {2}local\/a\.qcow2 is complete, 256 MiB, identical to its source; moved \S+ MiB\n$/)
  t.match(first.stderr, /^one {2}local\/sample\.raw -> local\/a\.qcow2 {2}running/m)
  t.notMatch(first.stdout + first.stderr, '\x1b')

  const again = await runCommand(t, ['copy', 'local/sample.raw', 'local/a.qcow2', '--verify', '--id', 'one', '--json'], { env })
  t.match(again, { status: 0, stderr: 'one had ended before: this is its stored result.\n' })
  t.match(JSON.parse(again.stdout), { id: 'one', state: 'succeeded', result: { verified: true } })

  // files by their paths: absolute, and relative to where the command runs
  const byPath = await runCommand(t, ['copy', join(directory, 'images/sample.raw'), 'a.qcow2', '--verify'], { env, cwd: join(directory, 'images') })
  t.match(byPath, { status: 0, stdout: /^done {2}copyImage-[0-9a-f]{8} {2}local\/a\.qcow2 was complete before\n$/ })
})

t.test('every option goes into the command', async t => {
  const options = ['--chain', 'flat', '--format', 'qcow2', '--cluster-size', '1M', '--ignore-space', '--refuse-loss', '--source-format', 'raw', '--allocation', 'sparse', '--bandwidth', '100M', '--on-existing', 'replace', '--verify', '--detach', '--id', 'd', '--url', address]
  const detached = await runCommand(t, ['copy', 'local/sample.raw', 'local/target', ...options])
  t.match(detached, { status: 0, stdout: `d  running; to follow it: vdsm-tasks --url ${address} wait d\n`, stderr: '' })
  const task = JSON.parse((await runCommand(t, ['task', 'd', '--json', '--url', address])).stdout)
  t.same(task.spec, {
    kind: 'storage.copyImage',
    source: { domain: 'local', image: 'sample.raw', format: 'raw' },
    target: { domain: 'local', image: 'target', format: 'qcow2', allocation: 'sparse', clusterSize: 1048576 },
    chain: 'flat',
    bandwidth: 104857600,
    verify: true,
    onExisting: 'replace',
    ignoreSpace: true,
    refuseLoss: true
  })
  t.match(await runCommand(t, ['wait', 'd', '--url', address]), { status: 0, stdout: /^done {2}d {2}local\/target is complete/ })
})

t.test('what is refused is told in words, with a status of its own; --json has the problem', async t => {
  const env = { VDSM_TASKS_URL: address }
  t.match(await runCommand(t, ['create', 'local/taken.raw', '1M'], { env }), { status: 0, stdout: /local\/taken\.raw is created/ })
  const refused = [
    [['copy', 'local/sample.raw', 'local/taken.raw'], 4, 'target-exists'],
    [['copy', 'local/missing.raw', 'local/b.raw'], 1, 'image-not-found'],
    [['copy', 'local/sample.raw', 'local/b.unknown'], 2, 'format-unknown'],
    [['copy', 'local/sample.raw', 'local/sample.raw'], 2, 'same-image']
  ] as const
  for (const [args, status, code] of refused) {
    const told = await runCommand(t, [...args], { env })
    t.match(told, { status, stdout: '' }, code)
    // on a slow machine the refusal comes behind a line about the pending task
    const words = told.stderr.split('\n').at(-2) ?? ''
    t.match(words, /^\w.+\.$/, 'words, no stack trace')
    const json = await runCommand(t, [...args, '--json'], { env })
    const problem = JSON.parse(json.stdout) as { detail: string }
    t.match({ status: json.status, problem }, { status, problem: { code } })
    t.equal(inCommands(problem.detail), words, 'programs get it as the agent said it')
  }
  const nowhere = await runCommand(t, ['copy', 'local/sample.raw', '/nowhere/b.raw'], { env })
  t.match(nowhere, { status: 2, stdout: '', stderr: /^"\/nowhere\/b\.raw" is neither DOMAIN\/IMAGE nor a file in a domain of the agent\. Its domains: local \(.*\/images\)\.\n$/ })
})

for (const [what, recovery, id, said] of [
  ['the command is sent again', 'manual', 'killed', /(.*\n)*The command was sent again as killed/],
  ['an agent that continues it by itself is followed there', 'own', 'recover.local.b.raw', /(.*\n)*(Task recover\.local\.b\.raw goes on with it\.|The command was sent again as killed)/]
] as const) {
  t.test(`an agent is killed under a copy: ${what}, and it goes on`, async t => {
    const directory = await makeDirectory(t)
    const config = { listen: { port: await freePort() }, recovery }
    const first = await startAgent(t, directory, config)
    const copying = startCommand(t, ['copy', 'local/sample.raw', 'local/b.raw', '--bandwidth', '30M', '--id', 'killed', '--json'], { env: { VDSM_TASKS_URL: first.address } })
    await copying.says(/running, [1-9]\d? %/)
    await first.kill()
    await copying.says(/The connection to the agent is lost; trying again\./)
    await startAgent(t, directory, config)
    t.equal(await copying.ended, 0, copying.stderr())
    t.match(copying.stderr(), new RegExp(`The agent is there again\\.\\nThe agent was restarted: its tasks are forgotten, images are not\\.\\n${said.source}`))
    const task = JSON.parse(copying.stdout())
    t.match(task, { state: 'succeeded', result: { epoch: 2 } })
    // whichever of the two came first
    t.ok(task.id === id || (recovery === 'own' && task.id === 'killed'), task.id)
    t.same(await readFile(join(directory, 'images/b.raw')), await readFile(join(directory, 'images/sample.raw')))
  })
}

t.test('an agent that stays away is waited for no longer than one is patient', async t => {
  const agent = await startAgent(t, await makeDirectory(t))
  const copying = startCommand(t, ['copy', 'local/sample.raw', 'local/b.raw', '--bandwidth', '1', '--patience', '1', '--json'], { env: { VDSM_TASKS_URL: agent.address } })
  await copying.says(/ running/)
  await agent.kill()
  t.equal(await copying.ended, 3)
  t.match(copying.stderr(), /The connection to the agent is lost; trying again\.\nThe agent at .* cannot be reached: .*\n$/)
  t.match(JSON.parse(copying.stdout()), { code: 'unreachable' })
})

t.test('Ctrl-C without a terminal leaves the copy to the agent and tells how to look at it', async t => {
  const copying = startCommand(t, ['copy', 'local/sample.raw', 'local/left.raw', '--bandwidth', '1', '--id', 'left'], { env: { VDSM_TASKS_URL: address } })
  await copying.says(/ running/)
  copying.child.kill('SIGINT')
  t.equal(await copying.ended, 130)
  t.equal(copying.stdout(), '')
  t.match(copying.stderr(), /left: the agent goes on\.\n {2}look: {4}vdsm-tasks task left\n {2}follow: {2}vdsm-tasks wait left\n {2}cancel: {2}vdsm-tasks cancel left\n$/)
  const client = new Client({ url: address })
  t.teardown(async () => { await client.close() })
  t.equal((await client.getTask('left')).task.state, 'running')
})
