import type { Command } from 'commander'
import type { Session } from './session.ts'
import { formatSeconds } from './units.ts'

export function addInfo (program: Command, session: Session): void {
  program.command('info')
    .description('tell who the agent is, and its limits')
    .addHelpText('after', `
Examples:
  vdsm-tasks info
  vdsm-tasks info --url unix:/run/vdsm-tasks.sock --json | jq -r .instance`)
    .action(async () => {
      const { client, json, out } = session
      const agent = await client.agent()
      if (json) return out.document(agent)
      const { who, scope } = await client.caller()
      const { version, hostId, instance, startedAt, kinds, limits, confinement } = agent
      out.fields([
        ['version', version],
        ['host', hostId],
        ['instance', instance],
        ['started', startedAt],
        ['you', `${who}, may ${scope}`],
        ['kinds', kinds.join(', ')],
        ['copies', `${limits.maxConcurrentCopies} at a time`],
        ['confined', `programs that open images: ${confinement.fileSystem}, as the ${confinement.user === 'owner' ? 'owner of the images' : 'user of the agent'}`],
        ['tasks', `${limits.maxActive} active, a finished one is kept for ${formatSeconds(limits.retentionSeconds)}`]
      ])
    })
}
