import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { Operation } from '../../src/api/operation.ts'
import { Gluster } from '../../src/gluster/cli.ts'
import { stopVolumeRebalance } from '../../src/gluster/stop-volume-rebalance.ts'
import { Turns } from '../../src/gluster/turns.ts'
import { temporaryDirectory } from '../helpers/directory.ts'

t.test('the last numbers of a rebalance are told also if Gluster answers nothing more', async t => {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  // what it said when one of three hosts was down, and then glusterd goes, too
  await writeFile(command, `#!/bin/sh
cd '${fileURLToPath(new URL('../fixtures/gluster/', import.meta.url))}'
if [ -e '${folder}/stopped' ]; then cat glusterd-down.xml; exit 1; fi
case "$*" in
  *'rebalance'*stop*) touch '${folder}/stopped'; cat down3-stop-n1.xml;;
  *'pool list'*) cat down3-pool-n1.xml;;
  *'volume info'*) cat back3-info-n2.xml;;
esac
`)
  await chmod(command, 0o755)
  const changed: Array<Operation | undefined> = []
  let accepted = 0
  const { run } = stopVolumeRebalance({ gluster: new Gluster({ command }), hostId: 'node1', retentionSeconds: 900, turns: new Turns(), changed: operation => { changed.push(operation) } })
  const { operationId, final } = await run({ kind: 'gluster.stopVolumeRebalance', volume: 'v0' }, {
    id: 'stop', signal: AbortSignal.timeout(60_000), accepting: () => {}, accepted: () => { accepted++ }, log: { warn: () => {} }
  })
  t.equal(accepted, 1)
  t.match(changed, [{ operationId, state: final.state }], 'whoever asks for the operations will see it')
  t.match(final, { complete: false, missing: [String] }, 'and who did not tell is named')
})
