import type { Command } from 'commander'
import type { Session } from './session.ts'
import { formatBytes } from './units.ts'

export function addDomains (program: Command, session: Session): void {
  program.command('domains')
    .description('list the storage domains of the agent')
    .addHelpText('after', `
Examples:
  vdsm-tasks domains
  vdsm-tasks domains --json | jq -r '.items[] | select(.state != "available") | .domain'`)
    .action(async () => {
      const { client, json, out } = session
      const items = await client.domains()
      if (json) return out.document({ items })
      if (items.length === 0) return session.say('The agent has no domains.')
      const size = (bytes: number | undefined) => bytes === undefined ? '-' : formatBytes(bytes)
      out.table(['domain', 'state', 'size', 'free', 'path'], items.map(({ domain, state, bytesTotal, bytesFree, path }) => [domain, state, size(bytesTotal), size(bytesFree), path]))
      for (const { domain, detail, leases, warnings = [] } of items) {
        for (const words of [detail, leases?.detail, ...warnings]) if (words !== undefined) session.say(`${domain}: ${words}`)
      }
    })
}
