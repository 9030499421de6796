import { readFileSync } from 'node:fs'
import { debuglog } from 'node:util'
import { Command } from 'commander'
import { addBricks } from './brick.ts'
import { addCopy } from './copy.ts'
import { addDomains } from './domains.ts'
import { addEvents } from './events.ts'
import { explain, exitStatuses, type ExitStatus } from './exit.ts'
import { addFixes } from './fixes.ts'
import { addImages } from './images.ts'
import { addInfo } from './info.ts'
import { addMend } from './mend.ts'
import { addOperations } from './operations.ts'
import { addRebalance } from './rebalance.ts'
import { addReload } from './reload.ts'
import { addRemoveBrick } from './remove-brick.ts'
import { addServe } from './serve.ts'
import { addService } from './service.ts'
import { escapeUnprintableLines } from '../unprintable.ts'
import type { GlobalOptions, Session } from './session.ts'
import { addTasks } from './tasks.ts'
import { addToken } from './token.ts'
import { parseSeconds } from './units.ts'
import { addVerify } from './verify.ts'

const debug = debuglog('vdsm-tasks')

/** Runs one command line and tells with which status to end. */
export async function run (args: readonly string[], session: Session): Promise<ExitStatus> {
  try {
    await createProgram(session).parseAsync(args, { from: 'user' })
    return session.status
  } catch (error) {
    const { status, message, problem } = explain(error)
    // with NODE_DEBUG=vdsm-tasks
    if (error instanceof Error) debug('%s', escapeUnprintableLines(error.stack ?? ''))
    // a command line that is wrong has perhaps not been read as far as --json
    if ((session.json || args.includes('--json')) && problem !== undefined) session.out.document(problem)
    if (message !== undefined) session.say(message)
    return status
  } finally {
    await session.close()
  }
}

/** All commands. They work with the session that they are given; nothing happens before `parseAsync`. */
export function createProgram (session: Session): Command {
  const program = new Command('vdsm-tasks')
    .description('Copies disk images crash-safely and starts Gluster rebalances: the command line of the host agent.')
    .version(versionOf(), '--version', 'print the version and exit')
    .option('--url <url>', 'where the agent listens: http(s)://HOST:PORT or unix:/PATH (also VDSM_TASKS_URL; default: http://127.0.0.1:7480)')
    .option('--token-file <file>', 'a file that holds the token to send (also VDSM_TASKS_TOKEN_FILE)')
    .option('--ca-file <file>', 'who vouches for the certificate of the agent, PEM (also VDSM_TASKS_CA_FILE)')
    .option('--cert-file <file>', 'the client certificate to show, PEM (also VDSM_TASKS_CERT_FILE)')
    .option('--key-file <file>', 'its private key, PEM (also VDSM_TASKS_KEY_FILE)')
    .option('--json', 'print JSON: one document, or one a line for tasks and events that are followed')
    .option('--patience <seconds>', 'while following: for how long to try again when the agent is gone (default: 600)', parseSeconds)
    .addHelpText('after', `
Images are named DOMAIN/IMAGE, or by the path of a file in a domain of the agent.

${exitStatuses}

Examples:
  vdsm-tasks copy local/sample.raw local/copy.qcow2 --verify
  vdsm-tasks copy /var/lib/images/a.raw shared/a.qcow2 --bandwidth 100M --id nightly-a
  vdsm-tasks fixes --apply
  vdsm-tasks tasks --json | jq -r '.items[].id'
  vdsm-tasks --url unix:/run/vdsm-tasks.sock info`)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: text => { session.out.sink.write(escapeUnprintableLines(text)) },
      writeErr: text => { session.stderr.write(escapeUnprintableLines(text)) }
    })
    .showHelpAfterError('(add --help to see how it is used)')
    .exitOverride()
    .hook('preAction', (_, command) => { session.configure(command.optsWithGlobals<GlobalOptions>()) })
  for (const add of [addServe, addCopy, addMend, addVerify, addImages, addFixes, addTasks, addEvents, addRebalance, addRemoveBrick, addBricks, addOperations, addDomains, addInfo, addReload, addService, addToken]) add(program, session)
  return program
}

function versionOf (): string {
  const { version }: { version: string } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))
  return version
}
