import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import t from 'tap'

/**
 * At the top of a test file, or of a helper: where one of these programs is not installed, the test file is skipped, and
 * counted as skipped. `npm test` installs them all first (scripts/setup.mjs); this is for who runs a file by hand.
 */
export function needs (...programs: readonly string[]): void {
  const missing = programs.filter(program => !isInstalled(program))
  if (missing.length === 0) return
  t.plan(0, `not installed: ${missing.join(', ')}`)
  process.exit(0)
}

function isInstalled (program: string): boolean {
  // a user's PATH often lacks the folders of the system's programs
  return [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin'].some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      // absent or not for us: the same
      return false
    }
  })
}
