import { spawnSync } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = dirname(dirname(fileURLToPath(import.meta.url)))

/**
 * Makes something unless it is there already, once, also when `npm start` and `npm test` begin at the same moment.
 *
 * The lock is flock(2) on the repository's folder: it leaves no file behind and is freed by death, so none can be stale. The flock
 * program locks the open file description, which stays ours when that program ends; `make` hands the descriptor to what it spawns,
 * so that an npm or tsc that outlives a killed setup still keeps others out.
 */
export function unlessFresh (isFresh, make) {
  if (isFresh()) return
  const fd = openSync(root, 'r')
  try {
    if (flock(fd, '--nonblock') === 1) {
      say('waiting for another setup in this folder')
      flock(fd)
    }
    // Any status but 1 means that this file system knows no locks here (NFS refuses one on a folder): then we do without.
    if (!isFresh()) make(fd)
  } finally {
    closeSync(fd)
  }
}

function flock (fd, ...options) {
  return spawnSync('flock', ['--exclusive', ...options, '3'], { stdio: ['ignore', 'ignore', 'ignore', fd] }).status
}

/** One line for the person in front, on standard error: standard output belongs to the command that runs after the setup. */
export function say (line) {
  process.stderr.write(`${line}\n`)
}

/** A step could not be done; its message is all that the person needs to see. */
export class StepError extends Error {}
