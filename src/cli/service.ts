import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import { UsageError } from './exit.ts'
import type { Session } from './session.ts'

/** What the gluster command writes to, on hosts that have it. */
const ofGluster = ['/var/log/glusterfs', '/run/gluster', '/var/run/gluster']

export function addService (program: Command, session: Session): void {
  program.command('service')
    .description('help to set up the systemd service')
    .addHelpText('after', `
Example:
  vdsm-tasks service paths --config /etc/vdsm-tasks/config.json`)
    .command('paths')
    .description('print a drop-in for the unit: the directories that the configured domains need to write')
    .requiredOption('--config <file>', 'the configuration of the agent', session.env['VDSM_TASKS_CONFIG'] || undefined)
    .addHelpText('after', `
The unit has ProtectSystem=strict: without the drop-in the agent writes only below /var/lib/vdsm-tasks. Make it again, and
restart the service, when a domain is added.

Example:
  mkdir -p /etc/systemd/system/vdsm-tasks.service.d
  vdsm-tasks service paths --config /etc/vdsm-tasks/config.json > /etc/systemd/system/vdsm-tasks.service.d/paths.conf
  systemctl daemon-reload && systemctl restart vdsm-tasks`)
    .action(({ config }: { config: string }) => {
      const paths = [...new Set([...pathsIn(resolve(session.directory, config)), ...ofGluster])]
      if (session.json) return session.out.document({ paths })
      session.out.line('[Service]')
      // not there yet is no mistake: it may be mounted later
      for (const path of paths) session.out.line(`ReadWritePaths=${quotedForUnit(`-${path}`)}`)
    })
}

/** Domains, mount roots where domains are looked for, and the folders of sockets. */
function pathsIn (file: string): string[] {
  const base = dirname(file)
  const config = read(file)
  const { domains = [{ path: './var/images' }], discover = [], listen = [] } = config
  const paths = [
    ...listOf(domains).map(domain => memberOf(domain, 'path')),
    ...listOf(discover),
    ...[listen].flat().map(listener => memberOf(listener, 'unix')).map(socket => typeof socket === 'string' ? dirname(resolve(base, socket)) : undefined)
  ]
  return paths.filter(path => typeof path === 'string').map(path => resolve(base, path))
}

function read (file: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (typeof value === 'object' && value !== null) return { ...value }
  } catch (error) {
    throw new UsageError(`The configuration ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}`)
  }
  throw new UsageError(`The configuration ${file} is not an object.`)
}

function listOf (value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function memberOf (value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? new Map<string, unknown>(Object.entries(value)).get(name) : undefined
}

/** As systemd.syntax(7) has it: quotes, backslashes, and % for specifiers. */
function quotedForUnit (text: string): string {
  const escaped = text.replaceAll('%', '%%')
  return /^[\w./@:+=,%-]+$/.test(escaped) ? escaped : `"${escaped.replaceAll(/["\\]/g, '\\$&')}"`
}
