import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import fc from 'fast-check'
import { AppError } from '../../src/errors.ts'
import { headerBytes, parseQcow2Header } from '../../src/qemu/header.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { MiB, qcow2Header, sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'

needs('qemu-img')

const directory = await temporaryDirectory(t)

t.test('headers that qemu-img writes are read', async t => {
  const path = join(directory, 'real.qcow2')
  for (const [options, size, expected] of [
    [[], 5 * MiB, { virtualSize: 5 * MiB, clusterBytes: 65536, snapshots: 0 }],
    [['-o', 'compat=0.10'], 512, { virtualSize: 512, clusterBytes: 65536, snapshots: 0 }],
    [['-o', 'cluster_size=2M'], 1024 ** 5, { virtualSize: 1024 ** 5, clusterBytes: 2 * MiB, snapshots: 0 }],
    [['-o', 'cluster_size=512'], 0, { virtualSize: 0, clusterBytes: 512, snapshots: 0 }],
    [['-u', '-b', 'base.raw', '-F', 'raw'], MiB, { virtualSize: MiB, clusterBytes: 65536, snapshots: 0, backing: 'base.raw' }],
    [['-u', '-b', 'json:{"driver":"nbd"}', '-F', 'raw'], MiB, { virtualSize: MiB, clusterBytes: 65536, snapshots: 0, backing: 'json:{"driver":"nbd"}' }],
    [['-u', '-b', 'x'.repeat(1000), '-F', 'raw'], MiB, { virtualSize: MiB, clusterBytes: 65536, snapshots: 0, backing: 'x'.repeat(1000) }]
  ] as const) {
    await sh('qemu-img', 'create', '-q', '-f', 'qcow2', ...options, path, String(size))
    const bytes = await readFile(path)
    t.same(parseQcow2Header(bytes.subarray(0, headerBytes), 'real.qcow2', bytes.length), expected, options.join(' ').slice(0, 40))
  }
})

t.test('the name of a backing file has at most 1,023 bytes', async t => {
  const named = (length: number) => {
    const bytes = Buffer.concat([qcow2Header(), Buffer.alloc(1500, 'x')])
    bytes.writeBigUInt64BE(512n, 8)
    bytes.writeUInt32BE(length, 16)
    return parseQcow2Header(bytes, 'long.qcow2', MiB)
  }
  t.equal(named(1023).backing, 'x'.repeat(1023))
  t.throws(() => named(1024), { code: 'image-invalid', message: /outside the header/ })
})

t.test('internal snapshots are counted', async t => {
  const path = join(directory, 'snapshots.qcow2')
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', path, '1M')
  for (const name of ['a', 'b']) await sh('qemu-img', 'snapshot', '-c', name, path)
  const bytes = await readFile(path)
  t.equal(parseQcow2Header(bytes.subarray(0, headerBytes), 'snapshots.qcow2', bytes.length).snapshots, 2)
})

t.test('an image that keeps its data elsewhere is refused before anybody opens it', async t => {
  const path = join(directory, 'external.qcow2')
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-o', `data_file=${directory}/data.raw`, path, '1M')
  const file = await open(path)
  const bytes = Buffer.alloc(headerBytes)
  await file.read(bytes, 0, headerBytes, 0)
  await file.close()
  t.throws(() => parseQcow2Header(bytes, 'external.qcow2', MiB), { code: 'image-invalid', message: /external\.qcow2.*another file/ })
})

t.test('each spoiled header is refused by name', async t => {
  const spoiled = (change: (header: Buffer) => void): Buffer => {
    const header = qcow2Header()
    change(header)
    return header
  }
  t.same(parseQcow2Header(qcow2Header(), 'x', MiB), { virtualSize: MiB, clusterBytes: 65536, snapshots: 0 }, 'the unspoiled one is not')
  for (const [what, bytes, words] of [
    ['nothing', Buffer.alloc(0), /too short/],
    ['71 bytes', qcow2Header().subarray(0, 71), /too short/],
    ['version 3 in 103 bytes', qcow2Header().subarray(0, 103), /cut off/],
    ['zeros', Buffer.alloc(512), /does not begin like a qcow2/],
    ['another magic', spoiled(header => { header.write('QED\0', 0, 'latin1') }), /does not begin like a qcow2/],
    ['version 1', qcow2Header({ version: 1 }), /version is 1/],
    ['version 4', qcow2Header({ version: 4 }), /version is 4/],
    ['a data file', spoiled(header => { header.writeBigUInt64BE(4n, 72) }), /another file/],
    ['a data file among other features', spoiled(header => { header.writeBigUInt64BE(0xfdn, 72) }), /another file/],
    ['clusters of 256 bytes', qcow2Header({ clusterBits: 8 }), /cluster size/],
    ['clusters of 4 MiB', qcow2Header({ clusterBits: 22 }), /cluster size/],
    ['clusters of 2^(2^32-1)', qcow2Header({ clusterBits: 0xffffffff }), /cluster size/],
    ['AES', spoiled(header => { header.writeUInt32BE(1, 32) }), /encrypted/],
    ['LUKS', spoiled(header => { header.writeUInt32BE(2, 32) }), /encrypted/],
    ['8 EiB', qcow2Header({ virtualSize: 2n ** 63n }), /9223372036854775808/],
    ['2^64 - 1 bytes', qcow2Header({ virtualSize: 2n ** 64n - 1n }), /18446744073709551615/],
    ['2^53 bytes', qcow2Header({ virtualSize: 2n ** 53n }), /9007199254740992/],
    ['a backing name beyond the file', spoiled(header => { header.writeBigUInt64BE(500n, 8); header.writeUInt32BE(13, 16) }), /outside the header/],
    ['a backing name at 2^63', spoiled(header => { header.writeBigUInt64BE(2n ** 63n, 8); header.writeUInt32BE(4, 16) }), /outside the header/],
    ['a backing name of 4 GiB', spoiled(header => { header.writeBigUInt64BE(200n, 8); header.writeUInt32BE(0xffffffff, 16) }), /outside the header/],
    ['a table beyond the file', qcow2Header({ l1Offset: MiB }), /cut off.* 1048584, the file at 1048576/],
    ['a table of 32 GiB', qcow2Header({ l1Size: 0xffffffff }), /cut off/],
    ['a backing name of 1024 bytes', spoiled(header => { header.writeBigUInt64BE(200n, 8); header.writeUInt32BE(1024, 16) }), /outside the header/]
  ] as const) t.throws(() => parseQcow2Header(bytes, 'x.qcow2', MiB), { code: 'image-invalid', message: words }, what)
  t.same(parseQcow2Header(qcow2Header({ virtualSize: 2n ** 53n - 1n }), 'x', MiB).virtualSize, Number.MAX_SAFE_INTEGER)
  t.same(parseQcow2Header(qcow2Header({ version: 2 }).subarray(0, 72), 'x', MiB).virtualSize, MiB, 'version 2 ends after 72 bytes')
})

t.test('the file must reach to the end of the table of clusters', t => {
  t.throws(() => parseQcow2Header(qcow2Header(), 'x', 0x30007), { code: 'image-invalid', message: /cut off/ })
  t.same(parseQcow2Header(qcow2Header(), 'x', 0x30008).virtualSize, MiB)
  t.same(parseQcow2Header(qcow2Header({ virtualSize: 0, l1Size: 0 }), 'x', 512).virtualSize, 0, 'an empty disk has no table')
  t.end()
})

t.test('no bytes at all make it throw anything but its own refusal', async t => {
  const spoiled = fc.array(fc.tuple(fc.nat(120), fc.nat(255)), { maxLength: 40 }).map(changes => {
    const header = qcow2Header({ backing: 'base.raw' })
    for (const [at, value] of changes) header[at] = value
    return header
  })
  t.doesNotThrow(() => {
    fc.assert(fc.property(fc.oneof(spoiled, fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes))), bytes => {
      try {
        const { virtualSize, clusterBytes } = parseQcow2Header(bytes, 'x', MiB)
        return Number.isSafeInteger(virtualSize) && clusterBytes >= 512 && clusterBytes <= 2 * MiB
      } catch (error) {
        return error instanceof AppError && error.code === 'image-invalid'
      }
    }), { numRuns: 2000 })
  })
})
