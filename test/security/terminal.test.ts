// Nothing that images, other hosts or a foreign server put into an answer reaches the terminal of the command line raw.
import t from 'tap'
import { runHere } from '../helpers/command-session.ts'
import { startForeignServer } from '../helpers/foreign-server.ts'
import { steering as attack, strangeIn } from '../helpers/unprintable.ts'

t.setTimeout(120_000)

const spec = { kind: 'storage.copyImage', source: { domain: attack, image: attack }, target: { domain: attack, image: attack } }
const task = {
  id: attack,
  runId: attack,
  kind: `storage.${attack}`,
  spec,
  state: attack,
  createdAt: attack,
  revision: 1,
  tick: 1,
  instance: attack,
  progress: { phase: attack, bytesTotal: 2, bytesDone: 1 }
}
const problem = { type: attack, title: attack, status: 500, code: attack, detail: attack }
const failed = { ...task, state: 'failed', endedAt: attack, expiresAt: attack, error: problem }
const fix = { action: 'mend', description: attack, task: { kind: 'storage.mendImage', domain: attack, image: attack } }
const copy = { bytesDone: 1, bytesTotal: 2, host: { id: attack }, taskId: attack, epoch: 1, source: spec.source }
const operation = {
  operationId: attack,
  volume: attack,
  kind: attack,
  state: attack,
  totals: { files: 1, bytes: 1, failures: 1 },
  nodes: [{ host: attack, state: 'failed', failures: 1 }],
  missing: [attack],
  problem
}
const volume = { volume: attack, state: attack, info: { format: attack, capacity: 1, truesize: 1, generation: 1, parent: attack } }

const answers: Readonly<Record<string, object>> = {
  '/agent': { version: attack, hostId: attack, instance: attack, startedAt: attack, kinds: [attack], limits: { maxConcurrentCopies: attack, maxActive: attack, retentionSeconds: 1 } },
  '/agent/caller': { who: attack, scope: attack },
  '/domains': {
    items: [
      { domain: 'd', layout: 'ovirt', state: 'available', path: attack, detail: attack, warnings: [attack], leases: { detail: attack } },
      { domain: attack, state: attack, path: attack, detail: attack }
    ]
  },
  '/domains/d/images': { items: [{ image: attack, volume: attack, format: attack, fileSize: 1, actualSize: 1, modifiedAt: attack }] },
  '/domains/d/images/i': { image: attack, state: attack, detail: attack, format: attack, copy, fixes: [fix], observedAt: attack, volumes: [volume] },
  '/domains/d/fixes': { items: [{ image: attack, state: attack, detail: attack, fixes: [fix] }, { image: attack, detail: attack, fixes: [] }] },
  '/domains/d/copies': { items: [] },
  '/tasks': { items: [task, failed], lastEventId: attack },
  '/gluster/operations': { items: [operation], unknown: [{ volume: attack, detail: attack }], observedAt: attack }
}
const frames = [['task', failed], ['task', task], ['progress', { id: attack, progress: task.progress }], ['image', { domain: attack, image: attack, state: attack }],
  ['operation', operation], ['forgotten', { id: attack }], ['synced', { instance: attack }], ['bye', { reason: attack }], ['later', { attack }]] as const

const commands = [['info'], ['domains'], ['images'], ['images', 'd'], ['status', 'd/i'], ['status', `d/i/${attack}`], ['fixes'], ['fixes', '--apply'], ['tasks'], ['task', 't'], ['wait', 't'],
  ['cancel', 't'], ['operations'], ['rebalance', attack, 'status'], ['copy', 'd/i', 'd/j'], ['copy', `${attack}/i`, attack], ['create', 'd/i', '1G', '--detach'], ['delete', 'd/i'],
  ['info', '--url', attack], [attack], ['info', `--${attack}`], ['events', '--patience', '0'], ['info', '--token-file', attack]]

for (const kind of ['answers', 'problems', 'foreign text']) {
  t.test(`every command prints hostile ${kind} escaped`, async t => {
    let streams = 0
    const url = await startForeignServer(t, ({ url = '', method }, response) => {
      const path = url.split('?', 1)[0] ?? ''
      if (kind === 'problems' && path !== '/domains') return response.writeHead(500, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem))
      if (kind === 'foreign text' && path !== '/domains') return response.writeHead(502, { 'content-type': 'text/plain' }).end(attack)
      if (path === '/events') {
        if (streams++ % 2 === 1) return response.writeHead(404, { 'content-type': 'application/problem+json' }).end(JSON.stringify({ ...problem, status: 404 }))
        response.writeHead(200, { 'content-type': 'text/event-stream' })
        return response.end(frames.map(([event, data]) => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`).join(''))
      }
      response.writeHead(200, { 'content-type': 'application/json' })
      return response.end(JSON.stringify(answers[path] ?? (method === 'PUT' && url.includes('create') ? task : failed)))
    })
    for (const command of commands) {
      for (const isTTY of [true, false]) {
        for (const json of [[], ['--json']]) {
          const { stdout, stderr } = await runHere([...command, ...json], { isTTY, env: { VDSM_TASKS_URL: url } })
          const what = `${command.join(' ').replaceAll(attack, 'ATTACK')}${json.join('')} ${isTTY ? 'on a terminal' : ''}`
          t.equal(strangeIn(stdout) ?? strangeIn(stderr), undefined, what)
          t.ok(stdout.length + stderr.length > 0, 'it says something')
          t.notMatch(stdout + stderr, /^ +at |^gnp/m)
        }
      }
    }
  })
}
