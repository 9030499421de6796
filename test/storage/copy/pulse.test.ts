import { open } from 'node:fs/promises'
import t from 'tap'
import type { Progress } from '../../../src/api/task.ts'
import { Pulse } from '../../../src/storage/copy/pulse.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'

// what it says of a storage that does not answer is shown by test/integration/hung-storage.test.ts, on one that does not

t.test('what a copy reports is passed on as it is while the storage answers, and not at all afterwards', async t => {
  const file = await open(await temporaryDirectory(t))
  t.teardown(async () => { await file.close() })
  const told: Progress[] = []
  const pulse = new Pulse([file.fd], progress => { told.push(progress) })
  const progress: Progress = { phase: 'copying', bytesDone: 1, bytesTotal: 2, bytesPerSecond: 3, etaSeconds: 4 }
  pulse.report(progress)
  t.same(told, [progress])
  pulse.stop()
  pulse.report({ ...progress, bytesDone: 2 })
  t.same(told, [progress])
})
