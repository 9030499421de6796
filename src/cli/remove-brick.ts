import { Argument, InvalidArgumentError, type Command } from 'commander'
import { UsageError } from './exit.ts'
import { startOperation, tellOf, throttleOperation, withStartOptions, type StartOptions } from './operations.ts'
import type { Session } from './session.ts'
import { submit, withTaskOptions } from './submit.ts'

interface RemoveOptions extends StartOptions {
  replica?: number
  force?: boolean
}

export function addRemoveBrick (program: Command, session: Session): void {
  withStartOptions(withTaskOptions(program.command('remove-brick')
    .description('empty bricks of a Gluster volume, then take them out')
    .argument('<volume>', 'the volume')
    .addArgument(new Argument('<what>', 'what to do').choices(['start', 'stop', 'commit', 'status', 'throttle']))
    .argument('[brick...]', 'the bricks, as HOST:/PATH; of replicated volumes whole sets')
    .option('--replica <count>', 'of start and commit: the new number of replicas, when that is reduced', parseCount)
    .option('--force', 'of commit: whatever is still on them; files that were not moved are lost to the volume')))
    .addHelpText('after', `
Start moves the data off the bricks; when that is completed, commit looks into them and takes them out if they are empty.
Stop gives it up.

Examples:
  vdsm-tasks remove-brick images start node3:/bricks/1/images --wait
  vdsm-tasks remove-brick images status
  vdsm-tasks remove-brick images commit node3:/bricks/1/images`)
    .action(async (volume: string, what: 'start' | 'stop' | 'commit' | 'status' | 'throttle', bricks: string[], { replica, force, ...start }: RemoveOptions) => {
      if (what === 'status') return await tellOf(session, volume, ['remove-brick'])
      if (what === 'throttle') return await throttleOperation(session, volume, ['remove-brick'], start.throttle)
      if (bricks.length === 0) throw new UsageError(`Name the bricks: ${session.hint(`remove-brick ${volume} ${what} HOST:/PATH`)}`)
      const about = { volume, bricks }
      const replicas = replica === undefined ? {} : { replica }
      if (what === 'stop') await submit(session, { kind: 'gluster.stopRemoveBrick', ...about }, start)
      else if (what === 'start') await startOperation(session, { kind: 'gluster.startRemoveBrick', ...about, ...replicas }, start)
      else await submit(session, { kind: 'gluster.commitRemoveBrick', ...about, ...replicas, ...(force !== undefined && { force }) }, start, { resend: true })
    })
}

function parseCount (text: string): number {
  if (!/^[1-9]\d{0,2}$/.test(text)) throw new InvalidArgumentError('Give a number.')
  return Number(text)
}
