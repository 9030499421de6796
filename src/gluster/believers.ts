import { AppError } from '../errors.ts'
import { findTasks, listHosts, listTasksOf, type Target } from './commands.ts'
import type { Workshop } from './verb.ts'

/** Between tries while Gluster says that an operation is already started: until the file that is on its way has arrived. */
export const triesAfterMs: readonly number[] = [500, 1000, 2000, 4000, 8000, 15_000]

export const comingToItsEnd = 'No host tells of one that runs: the last one is still coming to its end. Try again later.'

/**
 * Says which hosts take an operation for current that this host does not find running. They differ after one of them was
 * down while it was started or stopped, and stay so until one is started that all of them know.
 *
 * Undefined when none does. `refusal`: Gluster's words, which sometimes name the host that has refused.
 */
export async function tellBelievers ({ gluster, hostId }: Workshop, { volume, type }: Pick<Target, 'volume' | 'type'>, refusal: AppError, signal: AbortSignal): Promise<string | undefined> {
  const [, named] = / failed on ([\w.:-]+?)[.:]?(\s|$)/.exec(refusal.message) ?? []
  const names = new Set(named === undefined ? [] : [named])
  const hosts = await listHosts(gluster).catch(none)
  for (const { host } of hosts.filter(({ connected }) => connected)) {
    const isOwn = host === 'localhost'
    const tasks = isOwn ? findTasks(gluster, volume, signal) : listTasksOf(gluster, host).then(all => all.get(volume) ?? [])
    if ((await tasks.catch(none)).some(task => task.type === type)) names.add(isOwn ? hostId : host)
  }
  if (names.size === 0) return undefined
  const all = [...names].join(', ')
  return `${all} ${names.size === 1 ? 'believes' : 'believe'} that it is running: see gluster volume status ${volume} tasks there. If nothing moves, stop it there, or restart glusterd on that host, and try again.`
}

function none (error: unknown): never[] {
  if (error instanceof AppError) return []
  throw error
}
