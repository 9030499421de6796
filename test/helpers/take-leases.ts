// Takes the leases of images, one after the other, and under each asks a lock whether somebody else is under it, too:
// take-leases.ts LEASES DIRECTORY ROUNDS. DIRECTORY has a file
// `oracle-N` for each, which is what is locked. Tells its parent the count.
import { constants } from 'node:fs'
import { lockFile, takeLease } from '../../src/storage/lease.ts'
import { closeFd, openDirectory, openFile } from '../../src/system/directory.ts'

const [leasesPath = '', path = '', rounds] = process.argv.slice(2)
const [leases, directory] = [await openDirectory(leasesPath), await openDirectory(path)]
let [met, taken] = [0, 0]
for (let round = 0; round < Number(rounds); round++) {
  for (let tries = 0; tries < 3; tries++) {
    const withoutFile = { file: async () => undefined }
    const lease = await takeLease(leases, `image-${round}`, 'exclusive', { withoutFile })
    if (lease === undefined) continue
    taken++
    const fd = await openFile(directory, `oracle-${round}`, constants.O_RDWR)
    if (!await lockFile(fd)) met++
    await new Promise(resolve => { setTimeout(resolve, 2) })
    await closeFd(fd)
    await lease.release()
  }
}
process.send?.({ met, taken }, () => { process.exit() })
