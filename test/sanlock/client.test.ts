import { constants, existsSync } from 'node:fs'
import { open, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { escapePath, initialiseLease, isBusy, isInvalid, readLease, readLockspaces, sanlockError } from '../../src/sanlock/client.ts'
import { temporaryDirectory } from '../helpers/directory.ts'

// What needs no daemon; the rest is in test/integration/sanlock.test.ts.

const directory = await temporaryDirectory(t)
const resource = { lockspace: '5fc8a6a5-7a39-4ef4-a4ff-5b4f0b1d8d6e', name: '0f3f4e57-6f3c-4bd5-9a55-9f4d6a1a7a11' }

t.test('a lease is as large as its domain says, nobody has it, and it is one of its own name only', async t => {
  for (const [sectorBytes, mebibytes] of [[512, 1], [4096, 1], [4096, 2], [4096, 8]] as const) {
    const file = join(directory, `${sectorBytes}-${mebibytes}.lease`)
    const handle = await open(file, constants.O_RDWR | constants.O_CREAT)
    await initialiseLease(handle.fd, resource, { sectorBytes, alignBytes: mebibytes * 1024 * 1024 })
    t.equal((await stat(file)).size, mebibytes * 1024 * 1024)
    t.match(await readLease(handle.fd, resource), { ownerId: 0, timestamp: 0 })
    const { error = 0 } = await readLease(handle.fd, { ...resource, name: 'another' }) as { error?: number }
    t.ok(isInvalid(error), String(error))
    await handle.close()
  }
})

t.test('what is no lease has the error of one', async t => {
  for (const content of ['', 'x'.repeat(1024 * 1024)]) {
    const file = join(directory, 'other')
    await writeFile(file, content)
    const handle = await open(file, constants.O_RDWR)
    const { error = 0 } = await readLease(handle.fd, resource) as { error?: number }
    t.ok(isInvalid(error) && !isBusy(error), String(error))
    await handle.close()
  }
})

t.test('without a daemon the answer says so', { skip: existsSync('/run/sanlock/sanlock.sock') && 'one is running here' }, async t => {
  t.same(await readLockspaces(), { error: sanlockError.absent })
})

t.equal(escapePath('/rhev/server:_a\\b'), '/rhev/server\\:_a\\\\b')
