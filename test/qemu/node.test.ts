import t from 'tap'
import { imageNode, nodeName, targetOptions, windowNode } from '../../src/qemu/node.ts'

const raw = (fd: number) => ({ fd, format: 'raw' }) as const
const qcow2 = (fd: number) => ({ fd, format: 'qcow2' }) as const
const file = (fd: number) => ({ driver: 'file', filename: `/proc/self/fd/${fd}` })

t.test('a graph names every file and ends outright', async t => {
  t.same(imageNode([raw(3)]), { driver: 'raw', file: file(3) })
  t.same(imageNode([qcow2(3)]), { driver: 'qcow2', file: file(3), backing: null })
  t.same(imageNode([qcow2(3), qcow2(4), raw(5)]), {
    driver: 'qcow2', file: file(3), backing: { driver: 'qcow2', file: file(4), backing: { driver: 'raw', file: file(5) } }
  })
  // a chain that goes on below a raw file would be a mistake of ours: raw has no backing file
  t.same(imageNode([raw(3), qcow2(4)]), { driver: 'raw', file: file(3) })
})

t.test('no format is left for qemu to guess, whatever the graph', async t => {
  const drivers = JSON.stringify(windowNode(imageNode([qcow2(3), qcow2(4), raw(5)]), 0, 512)).match(/"driver":"\w+"/g)
  t.same(drivers, ['raw', 'qcow2', 'file', 'qcow2', 'file', 'raw', 'file'].map(driver => `"driver":"${driver}"`))
  t.match(nodeName(imageNode([raw(3)])), /^json:\{"driver":"raw"/)
})

t.test('the options of a target say the same as a graph', async t => {
  t.equal(targetOptions(raw(4), 1048576, 512, { preallocated: false, locking: false, writeZeros: false }), 'driver=raw,offset=1048576,size=512,discard=unmap,file.driver=file,file.filename=/proc/self/fd/4,file.locking=off,file.discard=unmap')
  t.equal(targetOptions(qcow2(4), 0, 65536, { preallocated: false, locking: false, writeZeros: false }), 'driver=raw,offset=0,size=65536,file.driver=qcow2,file.file.driver=file,file.file.filename=/proc/self/fd/4')
})

t.test('a target whose file system may not zero has the zeros written', t => {
  const refused = (file: string) => `${file}.driver=blkdebug,${file}.inject-error.0.event=none,${file}.inject-error.0.iotype=write-zeroes,${file}.inject-error.0.errno=95`
  t.equal(targetOptions(raw(4), 0, 512, { preallocated: false, locking: false, writeZeros: true }), `driver=raw,offset=0,size=512,discard=unmap,${refused('file')},file.discard=unmap,file.image.driver=file,file.image.filename=/proc/self/fd/4,file.image.locking=off,file.image.discard=unmap`)
  t.equal(targetOptions(qcow2(4), 0, 512, { preallocated: true, locking: true, writeZeros: true }), `driver=raw,offset=0,size=512,discard=off,file.driver=qcow2,file.discard=off,${refused('file.file')},file.file.discard=off,file.file.image.driver=file,file.file.image.filename=/proc/self/fd/4,file.file.image.discard=off`)
  t.end()
})

t.test('a preallocated target is never punched, on any level', async t => {
  t.notMatch(targetOptions(raw(4), 0, 512, { preallocated: false, locking: true, writeZeros: false }), 'locking=off')
  t.equal(targetOptions(raw(4), 0, 512, { preallocated: true, locking: false, writeZeros: false }), 'driver=raw,offset=0,size=512,discard=off,file.driver=file,file.filename=/proc/self/fd/4,file.locking=off,file.discard=off')
  t.equal(targetOptions(qcow2(4), 0, 512, { preallocated: true, locking: false, writeZeros: false }), 'driver=raw,offset=0,size=512,discard=off,file.driver=qcow2,file.discard=off,file.file.driver=file,file.file.filename=/proc/self/fd/4,file.file.discard=off')
})
