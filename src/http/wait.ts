import type { FastifyRequest } from 'fastify'
import type { Run } from '../tasks/run.ts'
import type { Standing } from './standing.ts'

/** Waits for a run, but no longer than its asker is there and may ask, or the agent goes on (`stopping`). */
export async function waitFor (run: Run, until: (run: Run) => boolean, timeoutMs: number, request: FastifyRequest, stopping: AbortSignal, standing: Pick<Standing, 'during'> | undefined): Promise<void> {
  // most need not wait: an AbortSignal for nothing would be a tenth of a PUT that joins
  if (until(run)) return
  const gone = new AbortController()
  const leave = () => { gone.abort() }
  request.raw.socket.once('close', leave)
  const wait = async (...lost: AbortSignal[]) => { await run.wait(until, timeoutMs, [stopping, gone.signal, ...lost]) }
  try {
    await (standing === undefined ? wait() : standing.during(request, wait))
  } finally {
    request.raw.socket.off('close', leave)
  }
}
