// Does one piece of storage work in a process of its own, without an agent: storage-job.mjs JOB, a JSON text. It ends with
// status 0, or with status 3 and the error as JSON. Made for strace: killed at any call, it leaves what a crash leaves.
import { layouts } from '../../dist/storage/domain/layouts.js'
import { withArea } from '../../dist/storage/area.js'
import { CopyWorker } from '../../dist/storage/copy/worker.js'

const { what, place, job, request } = JSON.parse(process.argv[2])
try {
  if (what === 'copy') process.stdout.write(JSON.stringify(await new CopyWorker({ accepted () {}, progress () {}, measured () {} }).copy(job)))
  else await withArea(place, async area => what === 'create' ? await layouts[area.layout].create(area, request) : await layouts[area.layout].delete(area, request, () => {}))
  process.exitCode = 0
} catch (error) {
  process.stdout.write(JSON.stringify({ code: error.code, message: error.message }))
  process.exitCode = 3
}
// the leases of a copy worker end with its process
process.exit()
