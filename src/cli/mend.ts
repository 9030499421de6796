import type { Command } from 'commander'
import { findImage } from './address.ts'
import { bandwidthOption } from './copy.ts'
import type { Session } from './session.ts'
import { submit, withTaskOptions, type SubmitOptions } from './submit.ts'

export function addMend (program: Command, session: Session): void {
  withTaskOptions(program.command('mend')
    .description('continue an interrupted copy')
    .argument('<image>', 'the unfinished image')
    .addOption(bandwidthOption()))
    .addHelpText('after', `
Ctrl-C asks whether to cancel it or to leave it to the agent; when nobody can be asked, it is left.

Examples:
  vdsm-tasks mend local/copy.qcow2
  vdsm-tasks mend local/copy.qcow2 --bandwidth 50M --detach`)
    .action(async (image: string, { bandwidth, ...task }: SubmitOptions & { bandwidth?: number }) => {
      await submit(session, { kind: 'storage.mendImage', ...await findImage(session, image), ...(bandwidth !== undefined && { bandwidth }) }, task, { resend: true })
    })
}
