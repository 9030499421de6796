import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'

/** A directory of the test's own with a short name: the path of a unix socket may have 107 bytes. */
export function shortDirectory (t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'vdsm-'))
  t.teardown(() => { rmSync(path, { recursive: true, force: true }) })
  return path
}
