import t from 'tap'
import { freePort, makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { runCommand, startCommand } from '../helpers/command-line.ts'

t.setTimeout(180_000)

t.test('wait and events go on across a restart: a forgotten task is told, with what the storage says of its image', async t => {
  const directory = await makeDirectory(t)
  const config = { listen: { port: await freePort() } }
  const first = await startAgent(t, directory, config)
  const env = { VDSM_TASKS_URL: first.address }
  t.match(await runCommand(t, ['copy', 'local/sample.raw', 'local/b.raw', '--bandwidth', '1', '--id', 'gone', '--detach'], { env }), { status: 0 })
  const waiting = startCommand(t, ['wait', 'gone'], { env })
  const machine = startCommand(t, ['wait', 'gone', '--json'], { env })
  const events = startCommand(t, ['events', '--json'], { env })
  await Promise.all([waiting.says(/gone.*running/), machine.says(/gone.*running/), events.says(/"synced"/)])
  await first.kill()
  await Promise.all([waiting.says(/is lost/), machine.says(/is lost/), events.says(/is lost/)])
  await startAgent(t, directory, config)
  t.equal(await waiting.ended, 1)
  t.match(waiting.stderr(), /The agent was restarted: its tasks are forgotten, images are not\.\nfailed {2}gone {2}The agent has forgotten task gone\. local\/b\.raw is interrupted, \d+ % of it is copied: vdsm-tasks mend local\/b\.raw continues it\.\n$/)
  t.equal(await machine.ended, 1)
  t.match(JSON.parse(machine.stdout()), { code: 'task-forgotten', task: { id: 'gone' }, copy: { state: 'interrupted', copy: { taskId: 'gone' } } })
  await events.says(/"reset","data":\{"reason":"instance-changed"\}[^]*"synced"/)
  events.child.kill('SIGINT')
  t.equal(await events.ended, 130)
  for (const line of events.stdout().trimEnd().split('\n')) t.type(JSON.parse(line).event, 'string')
})

t.test('events are told in plain words, from a cursor on', async t => {
  const { address } = await startAgent(t, await makeDirectory(t))
  const env = { VDSM_TASKS_URL: address }
  const { lastEventId } = JSON.parse((await runCommand(t, ['tasks', '--json'], { env })).stdout)
  t.match(await runCommand(t, ['create', 'local/a.raw', '1M', '--id', 'a'], { env }), { status: 0 })
  const events = startCommand(t, ['events', '--after', lastEventId, '--type', 'task', 'image'], { env })
  await events.says(/^\d\d:\d\d:\d\d {2}task {7}a {2}pending {2}local\/a\.raw\n[^]*task {7}a {2}succeeded {2}local\/a\.raw is created, 1 MiB\n[^]*synced/)
  t.match(events.stdout(), /image {6}local\/a\.raw {2}ok/)
})
