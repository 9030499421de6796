// Runs on one host of the cluster: answers calls that come as lines of JSON, and tells what its poller sees.
import { createInterface } from 'node:readline'
import type { GlusterKind } from '../../../src/api/gluster-kinds.ts'
import { AppError } from '../../../src/errors.ts'
import { Gluster } from '../../../src/gluster/cli.ts'
import { createGlusterKinds } from '../../../src/gluster/kinds.ts'
import { Operations } from '../../../src/gluster/operations.ts'
import { Poller } from '../../../src/gluster/poller.ts'
import type { Verb } from '../../../src/gluster/verb.ts'

export interface Call {
  call: 'run' | 'list' | 'volumes' | 'counters'
  id: number
  taskId?: string
  reused?: boolean
  spec?: { kind: GlusterKind } & Record<string, unknown>
}

function say (line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}

const log = {
  info: (fields: object, message: string) => { console.error(message, fields) },
  warn: (fields: object, message: string) => { console.error(message, fields) }
}
const hostId = process.argv[2] ?? ''
const gluster = new Gluster()
const operations = new Operations({ gluster, hostId })
const poller = new Poller({
  operations,
  pollSeconds: 2,
  idleSeconds: 3,
  onChange: operation => { say({ event: 'operation', operation }) },
  onProgress: operation => { say({ event: 'operationProgress', operation }) },
  log
})
const kinds = createGlusterKinds({
  gluster,
  hostId,
  retentionSeconds: 900,
  changed (ended) {
    operations.expire()
    if (ended !== undefined) poller.settle(ended)
    poller.nudge()
  }
})

async function answer ({ call, taskId = '', reused = false, spec }: Call): Promise<unknown> {
  if (call === 'list') return operations.list()
  if (call === 'volumes') return operations.volumes()
  if (call === 'counters') return gluster.counters
  if (spec === undefined) throw new Error('no spec')
  // the registry will have validated it against the schema of its kind
  const verb = kinds[spec.kind] as Verb<unknown, object>
  let accepted = false
  const result = await verb.run(spec, { id: taskId, reused, signal: AbortSignal.timeout(60_000), accepted: () => { accepted = true }, log })
  return { ...result, accepted }
}

poller.start()
say({ event: 'ready' })
createInterface({ input: process.stdin }).on('line', line => {
  const call = JSON.parse(line) as Call
  answer(call).then(
    result => { say({ id: call.id, result }) },
    (error: unknown) => {
      const known = error instanceof AppError
      say({ id: call.id, error: known ? { code: error.code, detail: error.message, changed: error.changed, ...error.members } : { code: 'internal', detail: String(error) } })
    }
  )
}).on('close', () => { process.exit(0) })
