import { lstat, rm } from 'node:fs/promises'
import { connect } from 'node:net'

/**
 * Removes the socket file that a dead process has left behind, so that its path can be used again. Throws when a
 * living process listens there, or when the file is no socket.
 */
export async function freeSocketPath (path: string): Promise<void> {
  const stats = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (stats === undefined) return
  if (!stats.isSocket()) throw new Error(`${path} exists and is not a socket. Choose another path for "listen.unix".`)
  if (await isAnswered(path)) throw new Error(`Another process listens on ${path}.`)
  await rm(path, { force: true })
}

async function isAnswered (path: string): Promise<boolean> {
  return await new Promise(resolve => {
    const socket = connect(path)
    socket.once('connect', () => { socket.destroy(); resolve(true) })
    // anything but a refusal may be a living process
    socket.once('error', (error: NodeJS.ErrnoException) => { resolve(error.code !== 'ECONNREFUSED' && error.code !== 'ENOENT') })
  })
}
