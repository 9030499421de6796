import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, startAgent } from '../../helpers/agent.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { compare, identical, makeDisk, MiB } from '../../helpers/images.ts'
import { needs } from '../../helpers/needs.ts'

needs('strace', 'qemu-img')

t.test('where the kernel has no more asynchronous I/O to give, threads do the work', async t => {
  const directory = await temporaryDirectory(t)
  const domain = join(directory, 'images')
  const log = join(directory, 'strace.log')
  // EAGAIN is what io_setup(2) says beyond /proc/sys/fs/aio-max-nr, which is the whole machine's
  const agent = await startAgent(t, {
    domains: [{ id: 'local', path: domain, create: true }],
    under: ['strace', '-f', '--seccomp-bpf', '-qq', '-o', log, '-e', 'trace=io_setup', '-e', 'inject=io_setup:error=EAGAIN']
  })
  await makeDisk(join(domain, 'source.raw'), 8 * MiB, { blockBytes: MiB })
  for (const format of ['raw', 'qcow2'] as const) {
    t.match(await agent.done(format, copySpec('source.raw', `copy.${format}`)), { state: 'succeeded' })
    t.equal(await compare({ path: join(domain, 'source.raw'), format: 'raw' }, { path: join(domain, `copy.${format}`), format }), identical)
  }
  t.match(await readFile(log, 'utf8'), /io_setup.*EAGAIN.*INJECTED/, 'it was asked for')
})
