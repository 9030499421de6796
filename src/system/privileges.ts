import process from 'node:process'
import { runOk } from './run.ts'

/**
 * Has the kernel write no core dump of this process, nor of any that it starts from now on: it would have private keys in it.
 * There is no such call in Node. Throws CommandError.
 */
export async function forbidCoreDumps (): Promise<void> {
  await runOk(['prlimit', '--pid', String(process.pid), '--core=0:0'], { maxOutput: 0 })
}

/**
 * Makes this process, and all that it starts from now on, another user's for good: with this group, and with those that
 * the user belongs to. Throws when it is not root's, or when there is no such user or group.
 */
export function becomeUser (user: string, group: string): void {
  const { setgid, initgroups, setuid, geteuid } = process as typeof process & { initgroups?: (user: string, group: string) => void }
  if (setgid === undefined || initgroups === undefined || setuid === undefined || geteuid?.() !== 0) throw new Error('only root can become another user: start the agent as root, or remove "runAs" and start it as that user')
  // the user last: without root's rights the groups cannot be changed any more
  initgroups(user, group)
  setgid(group)
  setuid(user)
}
