// Does one piece of storage work in a process of its own, without an agent: its argument is a StorageJob as JSON. It ends with
// status 0, or with status 3 and the error as JSON. Made for strace: killed at any call, it leaves what a crash leaves.
import { explain } from '../../src/storage/failure.ts'
import { CopyWorker } from '../../src/storage/copy/worker.ts'
import { copyAgent } from './copy-agent.ts'
import { change, type StorageJob } from './storage-change.ts'

process.on('SIGXFSZ', () => {})

const todo = JSON.parse(process.argv[2] ?? '') as StorageJob
try {
  if (todo.what === 'copy' || todo.what === 'preview') {
    const worker = new CopyWorker(copyAgent())
    process.stdout.write(JSON.stringify(await worker[todo.what](todo.job)))
  } else await change(todo)
  process.exitCode = 0
} catch (error) {
  const { code, message } = explain(error, 'The job')
  process.stdout.write(JSON.stringify({ code, message }))
  process.stderr.write(`${code}: ${message}\n`)
  process.exitCode = 3
}
// the leases of a copy worker end with its process
process.exit()
