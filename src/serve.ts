import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import closeWithGrace from 'close-with-grace'
import { pino, type DestinationStream, type Logger } from 'pino'
import { createApp, version, type Application } from './app.ts'
import { ConfigError, loadConfig, rereadConfig, type Config, type Reread } from './config.ts'
import { closeInherited } from './system/descriptors.ts'
import { becomeUser, forbidCoreDumps } from './system/privileges.ts'
import { escapeUnprintableDeep, escapeUnprintableLines } from './unprintable.ts'

const usage = `Usage: vdsm-tasks serve [--config FILE] [--show-config]

Runs the agent until it is told to stop (SIGTERM, or Ctrl-C).

  --config FILE   the configuration, JSON (also VDSM_TASKS_CONFIG); without one the agent
                  listens on 127.0.0.1:7480 and has the domain "local" in ./var/images
  --show-config   print the configuration in force, defaults included, and exit
  --version       print the version and exit
  --help          print this and exit

Examples:
  vdsm-tasks serve
  vdsm-tasks serve --config /etc/vdsm-tasks/config.json
  vdsm-tasks serve --config /etc/vdsm-tasks/config.json --show-config
`

interface Options {
  config: string | undefined
  showConfig: boolean
}

function readOptions (args: string[]): Options {
  try {
    const { values } = parseArgs({
      args,
      options: { config: { type: 'string' }, 'show-config': { type: 'boolean' }, version: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } }
    })
    if (values.help === true) return leave(0, usage)
    if (values.version === true) return leave(0, `${version}\n`)
    return { config: values.config ?? (process.env['VDSM_TASKS_CONFIG'] || undefined), showConfig: values['show-config'] ?? false }
  } catch (error) {
    return leave(2, `${error instanceof Error ? error.message : String(error)}\n\n${usage}`)
  }
}

function readConfig (file: string | undefined): Config {
  try {
    return loadConfig(file, process.cwd())
  } catch (error) {
    if (error instanceof ConfigError) return leave(2, `${error.message}\n`)
    throw error
  }
}

/** Makes log lines for people. In this process: a thread of its own would take its last lines with it when the agent is killed. */
async function prettyPrinter (): Promise<DestinationStream> {
  const { default: pretty } = await import('pino-pretty')
  const lines = pretty({ ignore: 'pid,host', translateTime: 'SYS:HH:MM:ss', sync: true })
  // it would make of the escapes of JSON what they stand for, on a terminal
  return { write: line => { lines.write(`${JSON.stringify(escapeStrings(JSON.parse(line)))}\n`) } }
}

/** Everything that is logged may quote images and other hosts. Only the lines of a stack are lines. */
function escapeStrings (value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return escapeUnprintableDeep(value)
  return Object.fromEntries(Object.entries(value).map(([name, member]) => {
    const isError = name === 'err' && typeof member === 'object' && member !== null && 'stack' in member
    if (!isError) return [name, escapeUnprintableDeep(member)]
    const plain = { ...member, stack: undefined }
    return [name, { ...Object(escapeUnprintableDeep(plain)), stack: escapeUnprintableLines(String(member.stack)) }]
  }))
}

/** JSON escapes C0 only; whoever looks at the log may do so on a terminal. The values stay as they are. */
function plainLines (): DestinationStream {
  const out = pino.destination(1)
  return { write: line => { out.write(escapeUnprintableLines(line)) } }
}

/** Says a last word, on standard error unless all is well, and ends. */
function leave (status: number, message: string): never {
  (status === 0 ? process.stdout : process.stderr).write(escapeUnprintableLines(message))
  process.exit(status)
}

function welcome (addresses: readonly string[], config: Config): string {
  const [address = ''] = addresses
  const secure = address.startsWith('https:') ? [`--cacert ${config.auth.tls?.cert}`] : []
  const known = !address.startsWith('unix:') && config.auth.tokensFile !== undefined ? ['-H "Authorization: Bearer $(cat TOKEN_FILE)"'] : []
  const curl = ['curl', ...address.startsWith('unix:') ? [`--unix-socket ${address.slice('unix:'.length)}`] : [], ...secure, ...known].join(' ')
  const base = address.startsWith('unix:') ? 'http://localhost' : address
  const sample = config.domains.find(domain => domain.sample)
  const listening = `vdsm-tasks ${version} listens on ${addresses.join(', ')}\n`
  if (sample === undefined) return listening
  const body = { kind: 'storage.copyImage', source: { domain: sample.id, image: 'sample.raw' }, target: { domain: sample.id, image: 'copy.qcow2' } }
  return `${listening}
Copy the sample image, then look at the task, then follow what happens:

  ${curl} -X PUT ${base}/tasks/first -H 'content-type: application/json' -d '${JSON.stringify(body)}'
  ${curl} ${base}/tasks/first
  ${curl} -N ${base}/events

`
}

/** Makes the process that of the user who is to own it, before anything else is done, and builds the agent. */
function build (config: Config, log: Logger, reread: () => Reread): Application {
  try {
    if (config.runAs !== undefined) becomeUser(config.runAs.user, config.runAs.group)
    return createApp(config, log, reread)
  } catch (error) {
    return leave(2, `The agent cannot start: ${error instanceof Error ? error.message : String(error)}\n`)
  }
}

/** Is the agent's process: configuration, application, signals. These are the arguments of `vdsm-tasks serve`. */
export async function serve (args: string[]): Promise<void> {
  closeInherited()
  // whoever read what the agent says may be gone (`| head`, a log service that restarts): that must not end the copies
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => { if (error.code !== 'EPIPE') throw error })
  }
  const options = readOptions(args)
  const config = readConfig(options.config)
  if (options.showConfig) leave(0, JSON.stringify(config, undefined, 2) + '\n')

  const settings = { level: config.log.level, base: { host: config.hostId } }
  // logs are for machines unless somebody looks
  const log = process.stdout.isTTY ? pino(settings, await prettyPrinter()) : pino(settings, plainLines())

  if (config.auth.tls !== undefined || config.auth.tokensFile !== undefined) {
    // before there are any in memory
    await forbidCoreDumps().catch((err: unknown) => { log.warn({ err }, 'core dumps of this process, which would have keys in them, could not be turned off') })
  }
  const app = build(config, log, () => rereadConfig(options.config, process.cwd()))
  process.on('SIGHUP', () => { void app.reload() })
  closeWithGrace({ delay: 2000, logger: log, skip: ['SIGHUP'] }, async ({ err }) => {
    // not as fatal: pino would flush, and its flush of a pipe that nobody reads never ends (sonic-boom tries again on EPIPE)
    if (err !== undefined) log.error({ err }, 'stopping because of an unexpected error')
    await app.stop()
  })
  try {
    const addresses = await app.start()
    log.info({ addresses, instance: app.instance, version }, `instance ${app.instance} has started`)
    // the lines below are to work when they are pasted; a storage that hangs must not keep them back
    await Promise.race([app.prepared(), sleep(5000, undefined, { ref: false })])
    // logs may be for machines, this is for people
    process.stderr.write(escapeUnprintableLines(welcome(addresses, config)))
  } catch (error) {
    const inUse = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'
    leave(1, `The agent cannot start: ${inUse ? `${error.message}. Is another agent running? "listen" in the configuration sets another address.` : error instanceof Error ? error.message : String(error)}\n`)
  }
}
