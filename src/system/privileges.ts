import process from 'node:process'

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
