import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { constants } from 'node:fs'
import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { compareCommand, convertCommand, createCommand, isFormat, lockProbeCommand, parsePercentage, probeCommand, repairLeaksCommand } from '../../src/qemu/commands.ts'
import { classifyFailure } from '../../src/qemu/failure.ts'
import { closeFd, openDirectory, openFile } from '../../src/system/directory.ts'
import { run } from '../../src/system/run.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { MiB, makeDisk, sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'

needs('qemu-img', 'strace')

const path = await temporaryDirectory(t)
const directory = await openDirectory(path)
const fds = [directory.fd]
t.teardown(async () => { await Promise.all(fds.map(async fd => { await closeFd(fd) })) })
const open = async (name: string) => {
  const fd = await openFile(directory, name, constants.O_RDWR | constants.O_CREAT)
  fds.push(fd)
  return fd
}

t.test('a reader conflicts with a writer only, who is to be alone with a reader, too', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', join(path, 'guest.qcow2'), '1M')
  const fd = await open('guest.qcow2')
  const probes = [() => run(probeCommand([{ fd: 3, format: 'qcow2' }], MiB), { fds: [fd] }), () => run(lockProbeCommand(3), { fds: [fd] })] as const
  // one after the other: each would find the other one
  const judge = async () => [classifyFailure(await probes[0]()), classifyFailure(await probes[1]())]
  t.match(await probes[0](), { exitCode: 0 })
  t.same(await judge(), ['other', 'other'])

  // qemu-io stands for the guest: it holds the image open until its input ends
  const openAs = async (...options: string[]) => {
    const guest = spawn('qemu-io', ['-f', 'qcow2', ...options, join(path, 'guest.qcow2')], { stdio: ['pipe', 'pipe', 'inherit'] })
    t.teardown(() => { guest.kill('SIGKILL') })
    guest.stdin.write('read 0 512\n')
    for await (const text of guest.stdout.iterator({ destroyOnReturn: false })) if (String(text).includes('read 512/512')) break
    return async () => {
      guest.stdin.end()
      await once(guest, 'exit')
    }
  }
  const closeWriter = await openAs()
  t.same(await judge(), ['in-use', 'in-use'])
  await closeWriter()
  const closeReader = await openAs('-r')
  t.same(await judge(), ['other', 'in-use'])
  await closeReader()
})

t.test('an empty image can be probed', async t => {
  await writeFile(join(path, 'empty.raw'), '')
  t.match(await run(probeCommand([{ fd: 3, format: 'raw' }], 0), { fds: [await open('empty.raw')] }), { exitCode: 0 })
})

t.test('images of each format and allocation are made in an open file', async t => {
  for (const format of ['raw', 'qcow2'] as const) {
    for (const allocation of ['sparse', 'preallocated'] as const) {
      const name = `made-${allocation}.${format}`
      t.match(await run(createCommand({ fd: 3, format }, 4 * MiB, allocation), { fds: [await open(name)] }), { exitCode: 0 })
      const info = JSON.parse(await sh('qemu-img', 'info', '--output=json', '-f', format, join(path, name))) as Record<string, number>
      t.equal(info['virtual-size'], 4 * MiB)
      t.equal((info['actual-size'] ?? 0) >= 4 * MiB, allocation === 'preallocated', name)
    }
  }
})

t.test('a window is copied to its place and nowhere else', async t => {
  await makeDisk(join(path, 'source.raw'), 8 * MiB, { blockBytes: MiB })
  for (const format of ['raw', 'qcow2'] as const) {
    const target = await open(`window.${format}`)
    await run(createCommand({ fd: 3, format }, 8 * MiB, 'sparse'), { fds: [target] })
    const command = convertCommand([{ fd: 5, format: 'raw' }], { fd: 4, format }, { offset: MiB, length: 2 * MiB, targetIsZero: true }, { cache: 'writeback', preallocated: false, locking: false, writeZeros: false, bytesPerSecond: undefined })
    const source = await open('source.raw')
    t.match(await run(command, { fds: [source, target, source] }), { exitCode: 0, stderr: '' })
    const rest = await run(compareCommand([{ fd: 3, format }], [{ fd: 4, format: 'raw' }]), { fds: [target, source] })
    t.match(rest, { exitCode: 1, stdout: /mismatch at offset 0/i })
    for (const [offset, length] of [[0, MiB], [3 * MiB, 5 * MiB]]) {
      await run(convertCommand([{ fd: 5, format: 'raw' }], { fd: 4, format }, { offset: offset ?? 0, length: length ?? 0, targetIsZero: true }, { cache: 'writeback', preallocated: false, locking: false, writeZeros: false, bytesPerSecond: 1e9 }), { fds: [source, target, source] })
    }
    const whole = await run(compareCommand([{ fd: 3, format }], [{ fd: 4, format: 'raw' }]), { fds: [target, source] })
    t.match(whole, { exitCode: 0 })
    t.equal(parsePercentage(whole.stdout), 100)
    if (format === 'qcow2') t.match(await run(repairLeaksCommand(3), { fds: [target] }), { exitCode: 0 })
  }
})

t.test('where the file system only says that it zeroes, zeros are written', async t => {
  await writeFile(join(path, 'dotted.raw'), randomBytes(4096))
  const source = await open('dotted.raw')
  const differs = async (writeZeros: boolean) => {
    const target = await open(`reused-${writeZeros}.qcow2`)
    await run(createCommand({ fd: 3, format: 'qcow2' }, MiB, 'sparse'), { fds: [target] })
    // what a killed writer leaves: data in clusters that nobody refers to, so that they are used again
    await appendFile(join(path, `reused-${writeZeros}.qcow2`), randomBytes(MiB))
    const convert = convertCommand([{ fd: 5, format: 'raw' }], { fd: 4, format: 'qcow2' }, { offset: 0, length: 4096, targetIsZero: true }, { cache: 'none', direct: true, preallocated: false, locking: true, writeZeros, bytesPerSecond: undefined })
    // fallocate does nothing and returns 0, as on GlusterFS
    t.match(await run(['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=fallocate', '-e', 'inject=fallocate:retval=0', ...convert], { fds: [source, target, source] }), { exitCode: 0, stderr: '' })
    return (await run(compareCommand([{ fd: 3, format: 'qcow2' }], [{ fd: 4, format: 'raw' }]), { fds: [target, source] })).stdout
  }
  t.match(await differs(false), 'Content mismatch at offset 4096', 'the trap is there')
  t.match(await differs(true), 'Images are identical')
})

t.test('a rate of one byte a second is one that qemu-img takes', async t => {
  const target = await open('slow.raw')
  await run(createCommand({ fd: 3, format: 'raw' }, MiB, 'sparse'), { fds: [target] })
  const source = await open('source.raw')
  const { exitCode } = await run(convertCommand([{ fd: 5, format: 'raw' }], { fd: 4, format: 'raw' }, { offset: 0, length: 512, targetIsZero: true }, { cache: 'unsafe', preallocated: false, locking: false, writeZeros: false, bytesPerSecond: 1 }), { fds: [source, target, source] })
  t.equal(exitCode, 0)
})

t.test('failures are told apart by the words of qemu-img', async t => {
  t.equal(classifyFailure({ stderr: 'qemu-img: Could not open \'x\': Failed to get "write" lock\nIs another process using the image [x]?' }), 'in-use')
  t.equal(classifyFailure({ stderr: 'qemu-img: error while writing at byte 1048576: No space left on device' }), 'no-space')
  t.equal(classifyFailure({ stderr: 'qemu-img: error while reading at byte 0: Input/output error' }), 'storage')
  t.equal(classifyFailure({ stderr: 'qemu-img: error while writing at byte 0: Read-only file system' }), 'storage')
  t.equal(classifyFailure({ stderr: 'qemu-img: error while writing sector 1: Disk quota exceeded' }), 'no-space')
  t.equal(classifyFailure({ stderr: 'qemu-img: /proc/self/fd/3: The image size is too large for file format \'raw\'' }), 'too-large')
  t.equal(classifyFailure({ stderr: 'qemu-img: error while writing at byte 0: Structure needs cleaning' }), 'storage')
  t.equal(classifyFailure({ stderr: 'qemu-img: error while writing at byte 0: Bad file descriptor' }), 'cut-off')
  t.equal(classifyFailure({ stderr: 'qemu-img: Could not open \'x\': Image is not in qcow2 format' }), 'other')
  t.equal(classifyFailure({ stderr: '' }), 'other')
})

t.test('whatever qemu-img says when it gets too little memory is known as that', async t => {
  const large = join(path, 'large.qcow2')
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', large, '1T')
  const seen = new Set<string>()
  for (let bytes = 24 * MiB; bytes <= 240 * MiB; bytes += 12 * MiB) {
    const ended = await run(['prlimit', `--as=${bytes}`, '--core=0', 'qemu-img', 'map', '--output=json', large])
    if (ended.exitCode === 0) continue
    t.equal(classifyFailure(ended), 'no-memory', `${bytes}: ${ended.signal ?? ended.exitCode} ${ended.stderr}`)
    seen.add(ended.signal ?? String(ended.exitCode))
  }
  t.strictSame([...seen].sort(), ['1', 'SIGABRT'], 'by an error, and by giving up')
})

t.test('what a signal has ended is known as killed, but for a file that became too large', async t => {
  t.equal(classifyFailure(await run(['sh', '-c', 'kill -KILL $$'])), 'killed')
  t.equal(classifyFailure(await run(['sh', '-c', 'kill -XFSZ $$'])), 'too-large')
})

t.test('the last percentage counts', async t => {
  t.equal(parsePercentage('    (0.00/100%)\r    (12.50/100%)\r    (99.99/100%)\r'), 99.99)
  t.equal(parsePercentage('Images are identical.'), undefined)
  t.equal(parsePercentage(''), undefined)
})

t.test('two formats are known', async t => {
  t.same(['raw', 'qcow2', 'vmdk', 'RAW', ''].filter(isFormat), ['raw', 'qcow2'])
})
