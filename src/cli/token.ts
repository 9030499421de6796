import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { InvalidArgumentError, Option, type Command } from 'commander'
import { scopes, type Scope } from '../auth/scope.ts'
import { isTokenName, lineOf, parseTokens, type StoredToken } from '../auth/token-file.ts'
import { makeToken } from '../auth/token.ts'
import { UsageError } from './exit.ts'
import type { Session } from './session.ts'

interface Place { file?: string, config?: string }
interface Wanted { scope: Scope, name?: string, days?: number, out?: string }

export function addToken (program: Command, session: Session): void {
  const token = program.command('token').description('make tokens for the agent on this host, and list them').addHelpText('after', `
Examples:
  vdsm-tasks token create --scope read --config /etc/vdsm-tasks/config.json
  vdsm-tasks token list --config /etc/vdsm-tasks/config.json`)
  const place = (command: Command) => command
    .option('--file <file>', 'the tokens file of the agent')
    .option('--config <file>', 'the configuration of the agent, which names its tokens file (also VDSM_TASKS_CONFIG)')

  place(token.command('create'))
    .description('make a token, print it, and add its digest to the tokens file')
    .addOption(new Option('--scope <scope>', 'what it allows: to read; also to create, change and cancel tasks; everything').choices(scopes).makeOptionMandatory())
    .option('--name <name>', 'what it is called in the tokens file and in the log (default: one that is free)')
    .option('--out <file>', 'write the token to this new file, which only its owner can read, instead of printing it')
    .option('--days <days>', 'for how long it is valid (default: until its line is removed)', parseDays)
    .addHelpText('after', `
The token is printed once and stored nowhere; the tokens file has only its digest. Without a file, the line for it is
printed, too. The agent reads the file at its start and at SIGHUP. Remove a line to take a token back.

Examples:
  vdsm-tasks token create --scope operate --name engine --file /etc/vdsm-tasks/tokens --out engine.token
  vdsm-tasks token create --scope read --days 30 --config /etc/vdsm-tasks/config.json
  systemctl reload vdsm-tasks`)
    .action((options: Place & Wanted) => { create(session, options) })

  place(token.command('list'))
    .description('list the tokens in the tokens file')
    .addHelpText('after', `
Examples:
  vdsm-tasks token list --file /etc/vdsm-tasks/tokens`)
    .action((options: Place) => {
      const file = tokensFile(session, options)
      if (file === undefined) throw new UsageError('Which tokens? Give --file or --config.')
      const tokens = read(file).map(({ name, scope, expiresAt }) => ({ name, scope, ...(expiresAt !== undefined && { expiresAt: new Date(expiresAt).toISOString() }) }))
      if (session.json) return session.out.document({ items: tokens })
      session.out.table(['name', 'scope', 'expires'], tokens.map(({ name, scope, expiresAt = 'never' }) => [name, scope, expiresAt]))
    })
}

function create (session: Session, { scope, name: wanted, days, out, ...place }: Place & Wanted): void {
  const file = tokensFile(session, place)
  const names = new Set(file === undefined || !existsSync(file) ? [] : read(file).map(({ name }) => name))
  const name = wanted ?? freeName(scope, names)
  if (!isTokenName(name)) throw new UsageError('A token\'s name may have letters, digits and . _ @ -, at most 100.')
  if (names.has(name)) throw new UsageError(`There is a token called ${name} already. Remove its line to take it back, or choose another name.`)
  const token = makeToken()
  const createdAt = new Date()
  const line = lineOf(token, { name, scope, createdAt, ...(days !== undefined && { expiresAt: new Date(createdAt.getTime() + days * 86_400_000) }) })
  const kept = out === undefined ? undefined : resolve(session.directory, out)
  // first: of a token that could not be kept nothing is to be listed
  if (kept !== undefined) writeSecret(kept, token)
  if (file !== undefined) appendOr(file, line, () => { if (kept !== undefined) rmSync(kept) })
  const where = kept === undefined ? { token } : { out: kept }
  if (session.json) session.out.document({ name, scope, ...where, ...(file === undefined && { line: JSON.parse(line) }) })
  else if (kept === undefined) session.out.line(token)
  if (file === undefined) {
    session.say('This is the line for the agent\'s tokens file ("auth.tokensFile" in its configuration):')
    session.say(line)
  } else session.say(`Token "${name}" (${scope}) is in ${file}. The agent knows it after SIGHUP, or when it is started. The token is not shown again.`)
}

/** In a new file: one that is there may be open to others, or lead elsewhere. */
function writeSecret (file: string, token: string): void {
  try {
    writeFileSync(file, `${token}\n`, { flag: 'wx', mode: 0o600 })
  } catch (error) {
    throw new UsageError(`The token cannot be written to ${file}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function appendOr (file: string, line: string, undo: () => void): void {
  try {
    append(file, line)
  } catch (error) {
    undo()
    throw new UsageError(`The tokens file ${file} cannot be written: ${error instanceof Error ? error.message : String(error)}`)
  }
}

/** In one write, which others who append cannot come between. */
function append (file: string, line: string): void {
  const before = existsSync(file) ? readFileSync(file, 'utf8') : ''
  appendFileSync(file, `${before === '' || before.endsWith('\n') ? '' : '\n'}${line}\n`, { mode: 0o600 })
}

function read (file: string): StoredToken[] {
  try {
    return parseTokens(readFileSync(file, 'utf8'))
  } catch (error) {
    throw new UsageError(`The tokens in ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
}

function tokensFile ({ directory, env }: Session, { file, config = env['VDSM_TASKS_CONFIG'] || undefined }: Place): string | undefined {
  if (file !== undefined) return resolve(directory, file)
  if (config === undefined) return undefined
  const path = resolve(directory, config)
  let named: unknown
  try {
    named = (JSON.parse(readFileSync(path, 'utf8')) as { auth?: { tokensFile?: unknown } } | null)?.auth?.tokensFile
  } catch (error) {
    throw new UsageError(`The configuration ${path} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
  if (typeof named !== 'string') throw new UsageError(`The configuration ${path} names no tokens file. Set "auth": {"tokensFile": "tokens"} in it, or give --file.`)
  return resolve(dirname(path), named)
}

function freeName (scope: Scope, taken: ReadonlySet<string>): string {
  for (let number = 1; ; number++) if (!taken.has(`${scope}-${number}`)) return `${scope}-${number}`
}

function parseDays (text: string): number {
  const days = Number(text)
  if (!(days > 0 && days <= 36_500)) throw new InvalidArgumentError('Give a number of days.')
  return days
}
