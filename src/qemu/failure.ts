/** What a failed qemu-img was about. It has one exit status for everything, so its words must be read; LC_ALL=C keeps them English. */
export type QemuFailure = 'in-use' | 'no-space' | 'other'

/** Tells the failures apart that callers can do something about. */
export function classifyFailure (stderr: string): QemuFailure {
  if (/Failed to (get|lock)|Is another process using the image/.test(stderr)) return 'in-use'
  if (/No space left on device|Disk quota exceeded/.test(stderr)) return 'no-space'
  return 'other'
}
