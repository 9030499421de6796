import { closeSync, constants, openSync } from 'node:fs'
import { chmod, chown, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import t, { type Test } from 'tap'
import { confine, usersFor, type FileAccess } from '../../src/system/confine.ts'
import { confinementInForce } from '../../src/system/confinement.ts'
import { run, type RunOptions } from '../../src/system/run.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/processes.ts'

needs('bwrap')

const isRoot = process.getuid?.() === 0
const unlessRoot = isRoot ? false : 'needs root'
const directory = await temporaryDirectory(t)
await chmod(directory, 0o755)

const limits = { cpuSeconds: 30, memoryBytes: 1024 ** 3 }
const file = (uid: number, mode: number, isWritten = false, gid = uid): FileAccess => ({ uid, gid, mode, isWritten })
const able = { root: true, changesUser: true, readsAll: true, writesAll: true }

t.test('whom a program becomes: the owner of the images, or whoever can open them, and capabilities come last', async t => {
  const users = (...files: FileAccess[]) => usersFor(files, { uid: 36, gid: 36 }, able)
  t.strictSame(users(file(36, 0o660)), ['36:36::', '0:0:36:', '36:36::2', '0:0:36:1'])
  t.strictSame(users(file(0, 0o600)), ['0:0::'], 'root without capabilities, for what is root\'s alone')
  t.equal(users(file(0, 0o640))[0], '36:36:0:', 'its group is enough')
  t.equal(users(file(0, 0o644))[0], '36:36::')
  t.equal(users(file(1000, 0o600), file(1000, 0o600, true))[0], '1000:1000::')
  t.strictSame(users(file(36, 0o600), file(1000, 0o600, true)).filter(user => !user.endsWith(':')), ['1000:1000::2', '0:0::1'], 'nobody can open both: reading all is tried before writing all')
  t.strictSame(usersFor([file(0, 0o600)], undefined, { ...able, root: false }), ['::::'], 'without root, it stays who it is')
  t.strictSame(usersFor([file(36, 0o600)], undefined, { ...able, changesUser: false }), ['::::', ':::1'])
})

async function open (t: Test, name: string, { text = name, owner = 0, mode = 0o600, flags = constants.O_RDWR } = {}): Promise<number> {
  const path = join(directory, name)
  await writeFile(path, text)
  if (isRoot) await chown(path, owner, owner)
  await chmod(path, mode)
  const fd = openSync(path, flags)
  t.teardown(() => { closeSync(fd) })
  return fd
}

/** Runs a shell confined, which says what it can do. */
async function shell (script: string, fds: readonly number[], { reads = [3], writes = [], owner, ...more }: Partial<RunOptions['confinement']> & Omit<RunOptions, 'confinement'> = {}) {
  return await run(['sh', '-c', script], { fds, ...more, confinement: { reads, writes, owner, limits } })
}

/** What the kernel says of a confined process. */
async function statusOf (fd: number, owner: { uid: number, gid: number } | undefined): Promise<string> {
  const done = new AbortController()
  let pid = ''
  const running = shell('echo $$; exec sleep 1000', [fd], { owner, signal: done.signal, onStdout: text => { pid += text } })
  const status = await until(async () => {
    const text = pid === '' ? '' : await readFile(`/proc/${pid.trim()}/status`, 'utf8')
    return /^Name:\tsleep$/m.test(text) && text
  }, 'the program')
  done.abort(new Error('seen'))
  await running.catch(() => {})
  return status
}

t.test('it has no capability and gets none, whoever it is', { skip: unlessRoot }, async t => {
  for (const [owner, uid] of [[36, 36], [0, 0]] as const) {
    const status = await statusOf(await open(t, `of-${owner}`, { owner }), { uid, gid: uid })
    t.match(status, new RegExp(`^Uid:\t${uid}\t${uid}\t${uid}\t${uid}$`, 'm'))
    t.match(status, new RegExp(`^Gid:\t${uid}\t${uid}\t${uid}\t${uid}$`, 'm'))
    t.match(status, /^Groups:\t ?$/m)
    for (const set of ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb']) t.match(status, new RegExp(`^Cap${set}:\t0+$`, 'm'), set)
    t.match(status, /^NoNewPrivs:\t1$/m)
    t.match(status, /^Seccomp:\t2$/m)
  }
})

t.test('it opens the files that it was given, each as it was given, and nothing else', async t => {
  t.equal((await confinementInForce()).fileSystem, 'landlock', 'the kernels that tests run on have it')
  const read = await open(t, 'to-read')
  const written = await open(t, 'to-write')
  const other = await open(t, 'other')
  const tried = async (script: string) => (await shell(script, [read, written, other], { reads: [3], writes: [4] })).exitCode
  t.equal(await tried('read line < /proc/self/fd/3'), 1, 'no line ends in it')
  t.equal(await tried(': < /proc/self/fd/3'), 0)
  t.equal(await tried(': >> /proc/self/fd/4'), 0)
  t.not(await tried(': >> /proc/self/fd/3'), 0, 'not to write what was given to read')
  t.not(await tried(': < /proc/self/fd/5'), 0, 'not what was not given')
  for (const path of [join(directory, 'other'), '/etc/passwd', '/proc/1/status', '/dev/zero']) t.not(await tried(`: < ${path}`), 0, path)
  t.not(await tried(`: > ${join(directory, 'new')}`), 0)
  await t.rejects(readFile(join(directory, 'new')), { code: 'ENOENT' })
})

t.test('it has no sockets, and ends with us', async t => {
  const fd = await open(t, 'socket')
  const { stdout } = await run(['perl', '-e', 'socket(my $s, 1, 1, 0) or print "$!\\n"; socket($s, 2, 1, 0) or print "$!\\n"; print getppid, "\\n"'], { fds: [fd], confinement: { reads: [3], writes: [], owner: undefined, limits } })
  t.equal(stdout, `Function not implemented\nFunction not implemented\n${process.pid}\n`)
})

t.test('too much processor time is told as that, and a signal from within a namespace, too', async t => {
  const fd = await open(t, 'busy')
  const confined = (script: string) => run(['perl', '-e', script], {
    fds: [fd], confinement: { reads: [3], writes: [], owner: undefined, limits: { ...limits, cpuSeconds: 1 } }
  })
  t.match(await confined('1 while 1'), { signal: 'SIGXCPU' })
  // bubblewrap ends with this status when what is in it was killed
  const within = await confined('exit 137')
  t.equal(within.signal, 'SIGKILL')
  t.notOk('exitCode' in within)
})

t.test('limits hold, and variables are for the program alone', async t => {
  const fd = await open(t, 'limits')
  const { stdout } = await shell('ulimit -t; ulimit -v; ulimit -c; ulimit -f; echo $EXTRA', [fd], { env: { EXTRA: 'yes' } })
  t.equal(stdout, '30\n1048576\n0\nunlimited\nyes\n')
  t.match((await confine({ reads: [3], writes: [], owner: undefined, limits }, [fd], { A: 'b=c' })).join(' '), 'env=A=b=c')
})

t.test('a program that is not there is named, and one that cannot be confined is not started', async t => {
  const fd = await open(t, 'missing')
  const confinement = { reads: [3], writes: [], owner: undefined, limits }
  await t.rejects(run(['vdsm-tasks-no-such-program'], { fds: [fd], confinement }), { notFound: true, message: /vdsm-tasks-no-such-program is not installed/ })
  const fallback = process.env['PATH']
  process.env['PATH'] = '/nowhere'
  t.teardown(() => { process.env['PATH'] = fallback })
  await t.rejects(run(['true'], { fds: [fd], confinement }), { notFound: true, message: /perl is not installed/ })
  process.env['PATH'] = fallback
})

t.test('files of two users: the program reads all that it was given, and no more', { skip: unlessRoot }, async t => {
  const source = await open(t, 'of-1000', { owner: 1000 })
  const target = await open(t, 'of-1001', { owner: 1001 })
  const script = `: < /proc/self/fd/3 && : >> /proc/self/fd/4 && id -u; : < ${join(directory, 'other')}`
  const { stdout, exitCode } = await shell(script, [source, target], { reads: [3], writes: [4], owner: { uid: 36, gid: 36 } })
  t.equal(stdout, '1001\n')
  t.not(exitCode, 0)
})

t.test('without Landlock, a mount namespace does the same', { skip: unlessRoot }, async t => {
  const fd = await open(t, 'in-namespace', { owner: 36, mode: 0o660 })
  const launcher = (await confine({ reads: [3], writes: [], owner: { uid: 36, gid: 36 }, limits }, [fd])).map(word => word === 'none' ? 'bwrap' : word)
  const script = ': < /proc/self/fd/3 && id -u; ls /; : < /etc/passwd'
  // a filter of system calls stands for a kernel that has no Landlock
  const noLandlock = 'syscall(157, 38, 1, 0, 0, 0); my $f = pack("SCCL", 0x20, 0, 0, 0) . pack("SCCL", 0x15, 0, 1, 444) . pack("SCCL", 6, 0, 0, 0x50026) . pack("SCCL", 6, 0, 0, 0x7fff0000); syscall(157, 22, 2, pack("Sx6P", 4, $f), 0, 0); exec @ARGV'
  const parented = launcher.map((word, index) => index === 3 ? '0' : word)
  const { stdout, stderr, exitCode } = await run(['perl', '-e', noLandlock, ...parented, 'sh', '-c', script], { fds: [fd] })
  t.match(stdout, /^36\n/, stderr)
  t.notMatch(stdout, /^(home|root|tmp|var|work)$/m)
  t.not(exitCode, 0)
})

t.test('what is reported is what an agent of this user has', async t => {
  t.match(await confinementInForce(), { user: isRoot ? 'owner' : 'agent', capabilities: isRoot ? 'when-needed' : 'none' })
})
