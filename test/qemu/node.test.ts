import t from 'tap'
import { imageNode, nodeName, targetNode, windowNode } from '../../src/qemu/node.ts'

const raw = (fd: number) => ({ fd, format: 'raw' }) as const
const qcow2 = (fd: number) => ({ fd, format: 'qcow2' }) as const
const file = (fd: number) => ({ driver: 'file', filename: `/proc/self/fd/${fd}` })

t.test('a graph names every file and ends outright', async t => {
  t.same(imageNode([raw(3)]), { driver: 'raw', file: file(3) })
  t.same(imageNode([qcow2(3)]), { driver: 'qcow2', file: file(3), backing: null })
  t.same(imageNode([qcow2(3), qcow2(4), raw(5)]), {
    driver: 'qcow2', 'cache-size': 1048576, file: file(3), backing: { driver: 'qcow2', 'cache-size': 1048576, file: file(4), backing: { driver: 'raw', file: file(5) } }
  }, 'each file of a chain has a small cache: there may be hundreds')
  // a chain that goes on below a raw file would be a mistake of ours: raw has no backing file
  t.same(imageNode([raw(3), qcow2(4)]), { driver: 'raw', file: file(3) })
})

t.test('no format is left for qemu to guess, whatever the graph', async t => {
  const drivers = JSON.stringify(windowNode(imageNode([qcow2(3), qcow2(4), raw(5)]), 0, 512)).match(/"driver":"\w+"/g)
  t.same(drivers, ['raw', 'qcow2', 'file', 'qcow2', 'file', 'raw', 'file'].map(driver => `"driver":"${driver}"`))
  t.match(nodeName(imageNode([raw(3)])), /^json:\{"driver":"raw"/)
})

const none = { preallocated: false, locking: false, writeZeros: false }

t.test('a target is a graph whose every file is named, and that has no backing file', async t => {
  t.strictSame(targetNode(raw(4), 1048576, 512, none), {
    driver: 'raw', offset: 1048576, size: 512, file: { ...file(4), discard: 'unmap', locking: 'off' }, discard: 'unmap'
  })
  t.strictSame(targetNode(qcow2(4), 0, 65536, none), { driver: 'raw', offset: 0, size: 65536, file: { driver: 'qcow2', backing: null, file: file(4) } })
  t.strictSame(targetNode(raw(4), 0, 512, { ...none, locking: true, direct: true, nativeAio: true }), {
    driver: 'raw', offset: 0, size: 512, file: { ...file(4), discard: 'unmap', aio: 'native' }, discard: 'unmap', cache: { direct: true }
  })
})

t.test('a target whose file system may not zero has the zeros written', async t => {
  const refusing = { driver: 'blkdebug', 'inject-error': [{ event: 'none', iotype: 'write-zeroes', errno: 95 }] }
  t.strictSame(targetNode(raw(4), 0, 512, { ...none, writeZeros: true }).file, { ...refusing, image: { ...file(4), discard: 'unmap', locking: 'off' }, discard: 'unmap' })
  t.strictSame(targetNode(qcow2(4), 0, 512, { preallocated: true, locking: true, writeZeros: true }).file, {
    driver: 'qcow2', backing: null, file: { ...refusing, image: { ...file(4), discard: 'off' }, discard: 'off' }, discard: 'off'
  })
})

t.test('a preallocated target is never punched, on any level', async t => {
  t.strictSame(targetNode(raw(4), 0, 512, { ...none, preallocated: true }), {
    driver: 'raw', offset: 0, size: 512, file: { ...file(4), discard: 'off', locking: 'off' }, discard: 'off'
  })
  t.strictSame(targetNode(qcow2(4), 0, 512, { ...none, preallocated: true }), {
    driver: 'raw', offset: 0, size: 512, file: { driver: 'qcow2', backing: null, file: { ...file(4), discard: 'off' }, discard: 'off' }, discard: 'off'
  })
})
