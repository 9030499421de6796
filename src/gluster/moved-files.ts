import type { VolumeInfo } from './answers.ts'
import { setOption } from './commands.ts'
import type { Workshop } from './verb.ts'

const option = 'cluster.lookup-optimize'

/** For the result of a task after which GlusterFS may not find files by name. */
export const optionWasSet = `${option} of the volume was set to off: with it, GlusterFS 10 does not find some of the moved files by name. ` +
  'Rebalance the volume before you set it again.'

/**
 * Makes Gluster look for a file everywhere when it is not where its name says. Returns whether that was to be done.
 *
 * After a removal that was broken off at some time (stopped, or a host was down), GlusterFS 10 no longer finds some of
 * the moved files by name, although they are there: with `cluster.lookup-optimize` it takes the layout of the last run
 * for that of all files. They come back with a rebalance, too, but only when that has ended.
 */
export async function findMovedFiles ({ gluster }: Workshop, { volume, options }: VolumeInfo, signal: AbortSignal): Promise<boolean> {
  if (options.get(option) === 'off') return false
  await setOption(gluster, volume, option, 'off', signal)
  return true
}
