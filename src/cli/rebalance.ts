import { Argument, Option, type Command } from 'commander'
import { startOperation, tellOf, throttleOperation, withStartOptions, type StartOptions } from './operations.ts'
import type { Session } from './session.ts'
import { submit, withTaskOptions } from './submit.ts'

interface RebalanceOptions extends StartOptions {
  mode?: 'rebalance' | 'fix-layout'
  force?: boolean
}

export function addRebalance (program: Command, session: Session): void {
  withStartOptions(withTaskOptions(program.command('rebalance')
    .description('start or stop the rebalance of a Gluster volume, or tell how far it is')
    .argument('<volume>', 'the volume')
    .addArgument(new Argument('[what]', 'what to do').choices(['start', 'stop', 'status', 'throttle']).default('status'))
    .addOption(new Option('--mode <mode>', 'of start: move files, or only let new ones go to new bricks').choices(['rebalance', 'fix-layout']))
    .option('--force', 'of start: move files even to bricks that are fuller than the ones they are on')))
    .addHelpText('after', `
It is started when Gluster has registered it; from then on every host tells how far it is.

Examples:
  vdsm-tasks rebalance images start --wait
  vdsm-tasks rebalance images
  vdsm-tasks rebalance images throttle --throttle lazy
  vdsm-tasks rebalance images stop`)
    .action(async (volume: string, what: 'start' | 'stop' | 'status' | 'throttle', { mode, force, ...start }: RebalanceOptions) => {
      if (what === 'status') return await tellOf(session, volume, ['rebalance', 'fix-layout'])
      if (what === 'throttle') return await throttleOperation(session, volume, ['rebalance', 'fix-layout'], start.throttle)
      if (what === 'stop') await submit(session, { kind: 'gluster.stopVolumeRebalance', volume }, start)
      else await startOperation(session, { kind: 'gluster.startVolumeRebalance', volume, ...(mode !== undefined && { mode }), ...(force !== undefined && { force }) }, start)
    })
}
