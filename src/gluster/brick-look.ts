import { once } from 'node:events'
import { programFolder } from '../location.ts'
import { forkBound } from '../system/fork.ts'
import type { BrickContent, BrickMessage, BrickRequest } from './brick/contract.ts'

export interface BrickLookOptions {
  /** `host:/path`, for `ps`. */
  brick: string
  volfile: string
  /** Milliseconds of silence after which the brick is taken to hang. */
  silenceMs: number
  signal: AbortSignal
  /** Called with every sign of life. */
  progressed: () => void
}

/** Everything that the process mounts is in a name space of its own: it ends with it. */
const ownMounts = ['unshare', '--mount', '--propagation', 'private', '--']

/**
 * Looks into a brick of any host, in a child process. Throws what stood against it, in words for a person. Neither the
 * child nor its mount is left, however this ends.
 */
export async function lookIntoBrick ({ brick, volfile, silenceMs, signal, progressed }: BrickLookOptions): Promise<BrickContent> {
  signal.throwIfAborted()
  const child = forkBound(new URL('gluster/brick/main', programFolder), { under: ownMounts, shown: [brick] })
  const gone = once(child, 'exit').catch(() => { /* it was never there */ })
  let silence: NodeJS.Timeout | undefined
  let stop = (): void => {}
  try {
    return await new Promise<BrickContent>((resolve, reject) => {
      let isReady = false
      const heard = (): void => {
        clearTimeout(silence)
        silence = setTimeout(() => { reject(new Error(`it has not answered for ${silenceMs} ms`)) }, silenceMs)
      }
      heard()
      stop = () => { reject(signal.reason) }
      signal.addEventListener('abort', stop, { once: true })
      child.on('error', reject)
      child.on('exit', (code, killedBy) => { reject(new Error(deathOf(code ?? killedBy, isReady))) })
      child.on('message', (message: BrickMessage) => {
        heard()
        progressed()
        switch (message.type) {
          case 'ready':
            isReady = true
            child.send({ volfile } satisfies BrickRequest, () => { /* 'exit' tells it as well */ })
            break
          case 'done': resolve(message.content); break
          case 'failed': reject(new Error(message.detail)); break
          case 'progress':
        }
      })
    })
  } finally {
    clearTimeout(silence)
    signal.removeEventListener('abort', stop)
    child.kill('SIGKILL')
    await gone
  }
}

function deathOf (how: string | number | null, wasReady: boolean): string {
  if (wasReady) return `the process that looked into it ended (${how})`
  return `the process that was to look into it could not start (${how}): the agent needs the right to make a mount name space (CAP_SYS_ADMIN)`
}
