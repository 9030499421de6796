import { writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

/**
 * Puts a gluster in front of the PATH that says what Gluster 10 said on a cluster of three hosts of which one was down. With
 * `busyOnce` the first command is refused, as while another one runs.
 */
export async function useRecordedGluster (t: Test, directory: string, { busyOnce = false } = {}): Promise<void> {
  await writeFile(join(directory, 'gluster'), `#!/bin/sh
cd '${fileURLToPath(new URL('../fixtures/gluster/', import.meta.url))}'
${busyOnce ? `if mkdir '${join(directory, 'asked')}' 2> /dev/null; then exec cat concurrent-a.xml; fi` : ''}
case "$*" in
  *remote-host*) exit 1;;
  *'volume status all tasks'*) cat down3-tasks-n1.xml;;
  *'rebalance'*status*) cat down3-status-n1.xml;;
  *'volume status'*detail*) cat down3-detail-n1.xml;;
  *'pool list'*) cat down3-pool-n1.xml;;
  *'volume info'*) cat back3-info-n2.xml;;
esac
`, { mode: 0o755 })
  const { PATH } = process.env
  process.env['PATH'] = `${directory}${delimiter}${PATH}`
  t.teardown(() => { process.env['PATH'] = PATH })
}
