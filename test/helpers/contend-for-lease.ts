// Takes leases and works under them, or removes their files: contend-for-lease.ts DIRECTORY PLACE work|remove SECONDS KEEP_MS.
// Under a lease there must be nobody else: each holder makes a file of the name in PLACE, and removes it before he lets go.
// Prints a line for each time that somebody else's was there, and at the end how often it had a lease or removed a file.
import { closeSync, openSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { removeUnusedLease, takeLease } from '../../src/storage/lease.ts'
import { openDirectory } from '../../src/system/directory.ts'
import { hasErrno } from '../../src/system/errno.ts'

const [path = '', place = '', role, seconds, keepMs] = process.argv.slice(2)
const leases = await openDirectory(path)
const end = performance.now() + Number(seconds) * 1000
let count = 0
while (performance.now() < end) {
  const name = `image-${Math.floor(Math.random() * 3)}`
  if (role === 'work') await work(name)
  else await remove(name)
}
process.stdout.write(`${count}\n`)
// removed files are still locked
process.exit()

async function work (name: string): Promise<void> {
  const lease = await takeLease(leases, name, 'exclusive', { local: false }).catch((error: unknown) => {
    // the file is removed again and again, and hosts see that late
    if (!hasErrno(error, 'ENOENT', 'ESTALE')) throw error
    return undefined
  })
  if (lease === undefined) return
  count++
  const mark = join(place, name)
  try {
    closeSync(openSync(mark, 'wx'))
    await sleep(Math.random() * 5)
    unlinkSync(mark)
  } catch (error) {
    process.stdout.write(`two holders of ${name}: ${error instanceof Error ? error.message : String(error)}\n`)
  }
  await lease.release()
}

async function remove (name: string): Promise<void> {
  const forget = await removeUnusedLease(leases, name, async () => true).catch(() => undefined)
  if (forget !== undefined) {
    count++
    setTimeout(() => { void forget() }, Number(keepMs))
  }
  await sleep(1)
}
