/** Who a lease on storage says that it belongs to. */
export interface Leader {
  ownerId: number
  ownerGeneration: number
  /** 0: nobody has it alone. */
  timestamp: number
}

/** What a host of a lockspace looks like to sanlock: `FAIL` is one that has not been seen for so long that it should be dead. */
export type HostState = 'FREE' | 'LIVE' | 'FAIL' | 'DEAD' | 'UNKNOWN'

/** A lockspace that sanlock's daemon on this host is in. */
export interface Lockspace {
  name: string
  /** The number of this host in it. */
  hostId: number
  /** It is being joined or left. */
  changing?: 'joining' | 'leaving'
  hosts: Map<number, { generation: number, state: HostState }>
}

/** The result that sanlock(8) prints at its end: 0, or a negative error number; undefined if it printed none. */
export function resultIn (stdout: string): number | undefined {
  // of the hosts of a lockspace that is just being joined it says that there are none, which is no error of the command
  const [, result] = [...stdout.matchAll(/^(?!hosts )\w+ (?:done|error) (-?\d+)\b/gm)].at(-1) ?? []
  return result === undefined ? undefined : Number(result)
}

/** What `sanlock direct read_leader` prints of a lease. */
export function parseLeader (stdout: string): Leader | undefined {
  const number = (key: string) => {
    const value = new RegExp(`^${key} (\\d+)$`, 'm').exec(stdout)?.[1]
    return value === undefined ? undefined : Number(value)
  }
  const [ownerId, ownerGeneration, timestamp] = ['owner_id', 'owner_generation', 'timestamp'].map(number)
  return ownerId === undefined || ownerGeneration === undefined || timestamp === undefined ? undefined : { ownerId, ownerGeneration, timestamp }
}

/** What `sanlock client gets -h 1` prints: the lockspaces and, below each, its hosts. */
export function parseLockspaces (stdout: string): Lockspace[] {
  const lockspaces: Lockspace[] = []
  for (const line of stdout.split('\n')) {
    // the path, between two colons, may have any of its own
    const space = /^s ([^:]+):(\d+):.*:\d+ (ADD )?(REM )?$/.exec(line)
    const host = /^h (\d+) gen (\d+) timestamp \d+ (FREE|LIVE|FAIL|DEAD|UNKNOWN)$/.exec(line)
    if (space?.[1] !== undefined) {
      const changing = space[3] !== undefined ? 'joining' as const : space[4] !== undefined ? 'leaving' as const : undefined
      lockspaces.push({ name: space[1], hostId: Number(space[2]), ...(changing !== undefined && { changing }), hosts: new Map() })
    } else if (host !== null) {
      lockspaces.at(-1)?.hosts.set(Number(host[1]), { generation: Number(host[2]), state: host[3] as HostState })
    }
  }
  return lockspaces
}
