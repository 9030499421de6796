import { closeSync, fstatSync, readdirSync, readlinkSync } from 'node:fs'
import process from 'node:process'
import { isatty } from 'node:tty'

const own = '/proc/self/fd'

/**
 * Closes descriptors above 2 that whoever started this process has left open: files, sockets and pipes that the agent must
 * not keep alive. To be called before anything is opened. Node marks all of them close-on-exec, also inherited ones, so that
 * does not tell them from its own: those are anonymous inodes, pipes of which both ends are here, /dev/null, and the
 * terminal, which it opens once more for each standard stream that is one.
 */
export function closeInherited (): void {
  // a parent that is a Node talks to it
  const channel = process.channel !== undefined
  const open = readdirSync(own).flatMap(name => {
    const fd = Number(name)
    const target = fd > 2 ? targetOf(fd) : undefined
    return target === undefined ? [] : [{ fd, target }]
  })
  const standard = [0, 1, 2].map(targetOf)
  for (const { fd, target } of open) {
    const isPair = target.startsWith('pipe:') && open.filter(other => other.target === target).length > 1
    const isOwn = isPair || target.startsWith('anon_inode:') || target === '/dev/null' ||
      (standard.includes(target) && isatty(fd)) || (channel && target.startsWith('socket:'))
    if (!isOwn) closeSync(fd)
  }
}

/** Nothing for the descriptor of the listing itself, which is closed by now. */
function targetOf (fd: number): string | undefined {
  try {
    fstatSync(fd)
    return readlinkSync(`${own}/${fd}`)
  } catch {
    return undefined
  }
}
