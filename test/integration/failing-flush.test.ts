import { mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { prepareArea } from '../../src/storage/area.ts'
import { total } from '../../src/storage/ranges.ts'
import { copySpec, mendSpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { recordIn, untrueRanges } from '../helpers/done-ranges.ts'
import { compare, identical, makeDisk, MiB } from '../helpers/images.ts'
import { MountSpace, unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

// A disk that takes writes and loses them: an ext4 on a loop device whose file lies on a full memory file system. Writing
// goes well, for there is space in the ext4; writing back does not, and the kernel says so once, to who flushes.

const size = 24 * MiB + 512

for (const [target, mended, directIo] of [
  ['torn.raw', 'mounted anew', false], ['torn.qcow2', 'mounted anew', true], ['torn.raw', 'as it is', true], ['torn.qcow2', 'as it is', false]
] as const) {
  const how = directIo ? 'write past' : 'flush of'
  t.test(`a ${how} the page cache that fails under ${target} is no lie in the record; mended ${mended} it ends identical`, { skip: unlessRoot }, async t => {
    const top = await temporaryDirectory(t)
    const [memory, at, local] = ['memory', 'frail', 'local'].map(name => join(top, name)) as [string, string, string]
    for (const path of [memory, at, local]) await mkdir(path)
    const source = join(local, 'source.raw')
    await prepareArea({ id: 'local', path: local }, true)
    await makeDisk(source, size, { blockBytes: 6 * MiB })

    const space = await MountSpace.make(t)
    await space.run('mount', '-t', 'tmpfs', '-o', 'size=80m', 'tmpfs', memory)
    // journal and tables take their space now. One with a journal is made read-only by the kernel when a write fails, one without is not
    const journal = mended === 'mounted anew' ? ['-J', 'size=4'] : ['-O', '^has_journal']
    await space.mountFile(join(memory, 'disk'), 128 * MiB, ['mkfs.ext4', '-q', '-b', '4096', '-m', '0', ...journal, '-E', 'nodiscard,lazy_itable_init=0,lazy_journal_init=0'], at)
    const domain = space.path(at)
    await prepareArea({ id: 'frail', path: domain }, true)
    await space.run('sync', '-f', at)
    const domains = [{ id: 'local', path: local }, { id: 'frail', path: at }]
    const agent = await startAgent(t, { domains, under: space.enter, copy: { windowSeconds: 0.5, directIo } })
    // its host file takes its space now, too: a journal with a new block in it could not be replayed on the full disk
    await until(async () => await readdir(join(domain, '.vdsm-tasks/hosts')).then(names => names.length > 0, () => false), 'the host file')
    await space.run('sync', '-f', at)
    const mountAnew = async () => {
      await space.unmount(at)
      await space.run('mount', '-o', 'loop', join(memory, 'disk'), at)
    }

    const filler = space.path(join(memory, 'filler'))
    const { bavail, bsize } = await statfs(space.path(memory))
    await writeFile(filler, Buffer.alloc(bavail * bsize - 10 * MiB))
    await agent.accept('torn', copySpec('source.raw', '', { target: { domain: 'frail', image: target }, bandwidth: 8 * MiB }))
    const { state, error } = await agent.finished('torn')
    t.equal(state, 'failed')
    t.match(error?.code, /^(storage-failed|no-space)$/, error?.detail ?? '')
    // nothing but the flush tells it of a raw part: its writes end in the cache, and qemu-img does not flush it. A qcow2 one flushes by itself, too
    if (target === 'torn.raw' && !directIo) t.match(error?.detail, /^What was written to torn\.raw could not be made durable: /)
    const { body } = await agent.image('frail', target)
    t.match(body, { state: 'interrupted', fixes: [{ action: 'mend' }, { action: 'clean' }] })
    // the agent has let go of a file system that takes no more writes
    if (mended === 'mounted anew') await mountAnew()
    const record = await recordIn(domain, target)
    t.ok(total(record.done) > 0 && total(record.done) < size, `${total(record.done)} bytes are done`)
    if (mended === 'mounted anew') t.same(await untrueRanges(domain, record, source, top), [], 'and they are there')
    t.notOk((await readdir(domain)).includes(target), 'nobody takes it for an image')

    await rm(filler)
    t.match(await agent.done('mend', mendSpec(target, { domain: 'frail' })), { state: 'succeeded', result: { epoch: 2 } })
    // an agent keeps its host file open: who unmounts a file system that works detaches its domain first
    await agent.reconfigure({ domains: domains.slice(0, 1) })
    await mountAnew()
    await agent.reconfigure({ domains })
    t.equal(await compare({ path: source, format: 'raw' }, { path: join(domain, target), format: target.endsWith('raw') ? 'raw' : 'qcow2' }), identical)
    t.strictSame(await until(async () => await agent.fixes('frail'), 'the domain to be back'), [])
  })
}
