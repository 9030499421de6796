import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { prepareArea } from '../../../src/storage/area.ts'
import { CopyWorker } from '../../../src/storage/copy/worker.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { copyAgent } from '../../helpers/copy-agent.ts'
import { makeDisk, MiB } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'
import { copyJob } from '../../helpers/storage-jobs.ts'

needs('qemu-img')

for (const [why, isNoted] of [['canceled', true], ['deadline', false]] as const) {
  t.test(`a copy that is stopped (${why}) ${isNoted ? 'notes that nobody wants it to go on' : 'may go on by itself'}`, async t => {
    const path = await temporaryDirectory(t)
    await prepareArea({ id: 'local', path }, true)
    await makeDisk(join(path, 'source.raw'), 4 * MiB)
    const request = { what: 'copy', source: { domain: 'local', image: 'source.raw', format: 'raw' }, target: { domain: 'local', image: 'target.raw', format: 'raw', allocation: 'sparse' }, verify: false, chain: 'flat', onExisting: 'refuse', ignoreSpace: false } as const
    const { job } = copyJob([{ id: 'local', path }], request, { clone: false })
    const worker: CopyWorker = new CopyWorker(copyAgent({ accepted () { worker.stop(why) } }))
    t.strictSame(await worker.copy(job), { canceled: true })
    const record: unknown = JSON.parse(await readFile(join(path, '.vdsm-tasks/copies/target.raw.json'), 'utf8'))
    t.match(record, { phase: 'copying' })
    t.equal(Object.hasOwn(record as object, 'canceledAt'), isNoted)
  })
}
