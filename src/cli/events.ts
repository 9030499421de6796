import { Option, type Command } from 'commander'
import type { AgentEvent, EventQuery } from '../client/types.ts'
import { formatBytes } from './units.ts'
import { paintState, type Piece } from './output.ts'
import type { Session } from './session.ts'
import { Patience } from './follow.ts'
import { outcomeOf, progressOf, subjectOf } from './words.ts'

interface EventOptions extends EventQuery {
  after?: string
}

export function addEvents (program: Command, session: Session): void {
  program.command('events')
    .description('follow what happens, until Ctrl-C')
    .addOption(new Option('--type <types...>', 'only these').choices(['task', 'progress', 'image', 'operation', 'operationProgress', 'forgotten']))
    .option('--kind <kinds...>', 'of tasks, only those of these kinds')
    .option('--id-prefix <prefix>', 'of tasks, only those whose id begins so')
    .option('--after <cursor>', 'go on behind this event (its id), or behind a list of tasks (its lastEventId)')
    .addHelpText('after', `
It begins with the tasks there are, then comes "synced", then what happens.

Examples:
  vdsm-tasks events
  vdsm-tasks events --type task image
  vdsm-tasks events --json | jq -r 'select(.event == "task") | .data.id + " " + .data.state'`)
    .action(async ({ after, ...query }: EventOptions) => {
      const { client, json, out } = session
      // the first connection is now or never, the next ones are waited for
      await client.agent()
      session.endWithReader()
      const patience = new Patience(session.patienceMs, text => { session.say(text) })
      const cursor = after === undefined ? {} : { lastEventId: after }
      for await (const event of client.events({ ...query, ...cursor, signal: patience.signal, onLost: error => { patience.lose(error) } })) {
        patience.regain()
        if (json) out.record(event)
        else out.line(`${new Date().toTimeString().slice(0, 8)}  ${event.event.padEnd(9)}  `, ...wordsOf(event))
      }
      patience.check()
    })
}

function wordsOf ({ event, data }: AgentEvent): Piece[] {
  switch (event) {
    case 'task': {
      const { id, spec, state, endedAt } = data
      return [`${id}  `, paintState(state), `  ${endedAt === undefined ? subjectOf(spec) : outcomeOf(data)}`]
    }
    case 'progress': return [`${data.id}  ${progressOf(data.progress)}`]
    case 'image': return [`${data.domain}/${data.image}  `, paintState(data.state)]
    case 'operation':
    case 'operationProgress': {
      const { operationId, kind, volume, state, totals: { files, bytes } } = data
      return [`${operationId}  ${kind} of ${volume}  `, paintState(state), `  ${files} files, ${formatBytes(bytes)}`]
    }
    case 'forgotten': return [data.id]
    case 'synced': return [`instance ${data.instance}`]
    case 'reset':
    case 'bye': return [data.reason]
    case 'busy': return [data.limit === 'requestsPerSecond' ? `more than ${data.maximum} requests in a second` : `${data.maximum} streams are open`]
    // of an agent that is newer
    default: return []
  }
}
