import { Argument, type Command } from 'commander'
import type { Session } from './session.ts'
import { submit, withTaskOptions, type SubmitOptions } from './submit.ts'

interface BrickOptions extends SubmitOptions {
  force?: boolean
}

const forceText = 'although other bricks of the set do not answer, or files wait to be healed; what only this brick has is lost'

export function addBricks (program: Command, session: Session): void {
  withTaskOptions(program.command('replace-brick')
    .description('put another brick in the place of one, and wait until it is healed')
    .argument('<volume>', 'the volume, replicated or dispersed')
    .argument('<brick>', 'the brick, as HOST:/PATH')
    .argument('<by>', 'the new one')
    .option('--force', forceText))
    .addHelpText('after', `
Example:
  vdsm-tasks replace-brick images node3:/bricks/1/images node4:/bricks/1/images`)
    .action(async (volume: string, brick: string, by: string, { force, ...task }: BrickOptions) => {
      await submit(session, { kind: 'gluster.replaceBrick', volume, brick, by, ...(force !== undefined && { force }) }, task, { resend: true })
    })

  withTaskOptions(program.command('reset-brick')
    .description('exchange the disk of a brick')
    .argument('<volume>', 'the volume, replicated or dispersed')
    .addArgument(new Argument('<step>', 'start takes the brick out of service, commit takes it back and waits until it is healed').choices(['start', 'commit']))
    .argument('<brick>', 'the brick, as HOST:/PATH')
    .option('--force', forceText))
    .addHelpText('after', `
Examples:
  vdsm-tasks reset-brick images start node3:/bricks/1/images
  vdsm-tasks reset-brick images commit node3:/bricks/1/images`)
    .action(async (volume: string, step: 'start' | 'commit', brick: string, { force, ...task }: BrickOptions) => {
      await submit(session, { kind: 'gluster.resetBrick', volume, brick, step, ...(force !== undefined && { force }) }, task)
    })
}
