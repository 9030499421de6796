import { chmod, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { Operation } from '../../src/api/operation.ts'
import { Gluster } from '../../src/gluster/cli.ts'
import { stopVolumeRebalance } from '../../src/gluster/stop-volume-rebalance.ts'
import { Turns } from '../../src/gluster/turns.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { outputOf } from './fixture.ts'

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

/** A gluster on which a rebalance runs until it is stopped, and that answers the stop with `answer`. */
async function stopping (t: Test, answer: string, { broken = false } = {}) {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  await writeFile(join(folder, 'answer'), answer)
  await writeFile(command, `#!/bin/sh
cd '${fileURLToPath(new URL('../fixtures/gluster/', import.meta.url))}'
case "$*" in
  *'rebalance'*stop*) ${broken ? '' : `touch '${folder}/stopped'; `}cat '${folder}/answer';;
  *'rebalance'*status*) if [ -e '${folder}/stopped' ]; then cat rebal-status-stopped.xml; else cat down3-status-n1.xml; fi;;
  *'volume status v0 tasks'*) cat down3-tasks-n1.xml;;
  *'pool list'*) cat down3-pool-n1.xml;;
  *'volume info'*) cat back3-info-n2.xml;;
esac
`)
  await chmod(command, 0o755)
  const { run } = stopVolumeRebalance({ gluster: new Gluster({ command }), hostId: 'node1', retentionSeconds: 900, turns: new Turns(), changed: () => {} })
  return await run({ kind: 'gluster.stopVolumeRebalance', volume: 'v0' }, {
    id: 'stop', signal: AbortSignal.timeout(60_000), accepting: () => {}, accepted: () => {}, log: { warn: () => {} }
  })
}

t.test('a stop with an odd answer has still stopped, and tells what can be read', async t => {
  const sound = outputOf('down3-stop-n1')
  const { operationId, final } = await stopping(t, sound)
  t.equal(final.problem, undefined)
  t.ok(final.totals.files > 0)

  const odd = await stopping(t, sound.replaceAll(/<size>\d+</g, '<size>18446744073709551615<').replaceAll(/<runtime>[^<]*</g, '<runtime>-1.00<'))
  t.match(odd, { operationId, final: { state: final.state, totals: { files: final.totals.files, bytes: 0, runtimeSeconds: 0 }, problem: { code: 'gluster-unexpected', detail: /18446744073709551615/ } } })

  t.match(await stopping(t, sound.replace(/<task-id>[^<]*<\/task-id>/, '')), { operationId, final: { totals: final.totals } })
})

t.test('a stop whose answer is no XML at all has stopped if Gluster knows of nothing more', async t => {
  const sound = await stopping(t, outputOf('down3-stop-n1'))
  const { operationId, final } = await stopping(t, 'volume rebalance: v0: success')
  t.equal(operationId, sound.operationId)
  t.match(final, { complete: false, problem: { code: 'gluster-unexpected', detail: /v0: success/ } })
  t.ok(final.nodes.length > 0, 'the numbers from before are the last')
  await t.rejects(stopping(t, 'volume rebalance: v0: success', { broken: true }), { code: 'gluster-unexpected', changed: true })
})
