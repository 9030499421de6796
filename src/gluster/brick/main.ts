import process from 'node:process'
import type { BrickMessage, BrickRequest } from './contract.ts'
import { mountBrick } from './mount.ts'
import { walkBrick } from './walk.ts'

// Looks into one brick. A process of its own, in a mount name space of its own: the brick may hang, and nothing of the
// mount may stay.

const progressMs = 1000

function say (message: BrickMessage): void {
  process.send?.(message, undefined, undefined, () => { /* nobody is there any more */ })
}

async function look ({ volfile }: BrickRequest): Promise<void> {
  let saidAt = 0
  const progressed = (): void => {
    const now = performance.now()
    if (now - saidAt < progressMs) return
    saidAt = now
    say({ type: 'progress' })
  }
  try {
    const root = await mountBrick(volfile)
    progressed()
    say({ type: 'done', content: await walkBrick(root, progressed) })
  } catch (error) {
    say({ type: 'failed', detail: error instanceof Error ? error.message : String(error) })
  }
}

// SIGKILL, because exit() waits for threads that are blocked in a dead file system
process.on('disconnect', () => { process.kill(process.pid, 'SIGKILL') })
process.once('message', (request: BrickRequest) => { void look(request) })
say({ type: 'ready' })
