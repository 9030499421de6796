import { throttles, type Operation, type Throttle } from '../api/operation.ts'
import { AppError } from '../errors.ts'
import type { VolumeInfo } from './answers.ts'
import type { Gluster } from './cli.ts'
import { findVolume, listHosts, setOption } from './commands.ts'

const option = 'cluster.rebal-throttle'

/** How much of the hosts the operations of a volume take; Gluster's own default when nobody has set it. */
export function throttleOf ({ options }: Pick<VolumeInfo, 'options'>): Throttle | undefined {
  const value = options.get(option) ?? 'normal'
  return throttles.find(known => known === value)
}

/**
 * Sets it for what runs and for what comes. Not while a host is away: an option that is set meanwhile makes it forget
 * its part of the operation. Throws `host-away`.
 */
export async function setThrottle (gluster: Gluster, volume: string, throttle: Throttle, signal?: AbortSignal): Promise<void> {
  if (throttleOf(await findVolume(gluster, volume, signal)) === throttle) return
  const away = (await listHosts(gluster)).filter(({ connected }) => !connected).map(({ host }) => host)
  if (away.length > 0) {
    throw new AppError('host-away', `The throttle of ${volume} is not changed while ${away.join(', ')} ${away.length === 1 ? 'is' : 'are'} away: a host that misses the change of an option forgets its part of what runs. Try again when it is back.`)
  }
  await setOption(gluster, volume, option, throttle, signal)
}

/** The same for a start, which does not fail for that: a warning when it could not be set. */
export async function throttleWarning (gluster: Gluster, volume: string, throttle: Throttle | undefined, signal: AbortSignal): Promise<string[]> {
  if (throttle === undefined) return []
  try {
    await setThrottle(gluster, volume, throttle, signal)
    return []
  } catch (error) {
    if (!(error instanceof AppError)) throw error
    return [`The throttle was not set to ${throttle}: ${error.message}`]
  }
}

/** What whoever moves files of a sharded volume should know. */
export function shardWarning ({ options }: Pick<VolumeInfo, 'options'>): string[] {
  if (!/^(on|yes|true|enable|1)$/i.test(options.get('features.shard') ?? '')) return []
  return ['The volume is sharded: an image is many files under .shard, which are moved and counted one by one, so a stopped operation leaves parts of one image on old and new bricks. GlusterFS before 3.12 could corrupt images that were in use while their parts were moved.']
}

/** With the member that says how hard it works. */
export function withThrottle (operation: Operation, volume: VolumeInfo): Operation {
  const throttle = throttleOf(volume)
  return throttle === undefined ? operation : { ...operation, throttle }
}
