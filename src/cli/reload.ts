import type { Command } from 'commander'
import type { Session } from './session.ts'

export function addReload (program: Command, session: Session): void {
  program.command('reload')
    .description('have the agent read its configuration again, and tell the outcome')
    .addHelpText('after', `
Tokens, certificates, clients and domains change with it; everything else takes a restart. Tokens and clients that are not
listed any more are not accepted from then on, also when something else is wrong. It needs the scope admin.

Examples:
  vdsm-tasks reload --url unix:/run/vdsm-tasks/agent.sock
  systemctl reload vdsm-tasks`)
    .action(async () => {
      const { client, json, out } = session
      const status = await client.reload()
      if (json) return out.document(status)
      out.line('The configuration is in force.')
    })
}
