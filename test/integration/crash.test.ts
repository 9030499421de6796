import { copyFile, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { total, type Ranges } from '../../src/storage/ranges.ts'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { commandLine, descendants, until, untilGone } from '../helpers/processes.ts'

t.setTimeout(300_000)

const domain = await temporaryDirectory(t)
const at = (name: string) => join(domain, name)
const start = async (): Promise<AgentProcess> => await startAgent(t, { domains: [{ id: 'local', path: domain, create: true }], copy: { windowSeconds: 0.5 } })
const recordOf = async (image: string) => JSON.parse(await readFile(at(`.vdsm-tasks/copies/${image}.json`), 'utf8')) as { done: Ranges, begun: Ranges, bytesMoved: number, windowBytes: number, epoch: number }

const size = 48 * MiB + 1536
const lanes = 2
/** Kills an agent in the middle of a copy, with a qemu-img at work and something done. */
async function killInTheMiddle (agent: AgentProcess, id: string, target: string): Promise<void> {
  await agent.accept(id, copySpec('source.raw', target, { bandwidth: 4 * MiB }))
  await agent.untilDone('local', target, 2 * MiB)
  await until(() => agent.children('qemu-img convert').length > 0)
  await agent.kill()
}

let agent = await start()
await makeDisk(at('source.raw'), size)
const instances = new Set<string>()

for (const target of ['copy.raw', 'copy.qcow2']) {
  t.test(`SIGKILL in the middle of a copy to ${target}`, async t => {
    await agent.accept(target, copySpec('source.raw', target, { bandwidth: 4 * MiB }))
    await agent.untilDone('local', target, 2 * MiB)
    const { body: { instance } } = await agent.request<{ instance: string }>('GET', '/agent')
    instances.add(instance)
    const below = await until(() => {
      const found = descendants(agent.pid)
      return found.some(pid => commandLine(pid).includes('qemu-img convert')) && found
    })
    process.kill(agent.pid, 'SIGKILL')
    await untilGone(...below)
    t.same(below.map(commandLine).filter(line => line.includes('qemu-img')), [], 'nothing survives it')

    const record = await recordOf(target)
    const inFlight = total(record.begun) - total(record.done)
    // those at work, those named for after them, and those that wait to be flushed
    t.ok(inFlight <= (4 * lanes + 1) * 4 * MiB, `${inFlight} bytes begun and not done`)

    agent = await start()
    const { status, body } = await agent.request<{ code: string, instance: string }>('GET', `/tasks/${target}`)
    t.equal(status, 404)
    t.match(body, { code: 'task-not-found', instance: String })
    t.notOk(instances.has(body.instance), 'a new instance answers')
    const image = (await agent.image('local', target)).body
    const before = image.copy?.bytesDone ?? 0
    t.match(image, { state: 'interrupted', virtualSize: size, copy: { phase: 'copying', taskId: target, epoch: 1 } })
    t.ok(before >= 2 * MiB && before < size)
    t.equal(before, total(record.done))
    t.notOk((await readdir(domain)).includes(target), 'nobody takes half a copy for an image')

    const [broken] = await agent.fixes('local')
    t.match(broken, { image: target, state: 'interrupted', fixes: [{ action: 'mend', task: { kind: 'storage.mendImage', domain: 'local', image: target } }, { action: 'clean' }] })
    const { bandwidth: _, ...mend } = broken?.fixes[0]?.task as Record<string, unknown>
    const { state, result } = await agent.done(`mend-${target}`, mend)
    t.equal(state, 'succeeded')
    t.match(result, { bytesTotal: size, bytesCopied: size - before, epoch: 2 })
    t.ok(Number((result as { bytesMoved?: number }).bytesMoved) + record.bytesMoved <= size, 'not more was moved than there is, but for what was in flight')
    t.equal(await compare({ path: at('source.raw'), format: 'raw' }, { path: at(target), format: target.endsWith('raw') ? 'raw' : 'qcow2' }), identical)
    t.same(await agent.fixes('local'), [])
    t.same(await readdir(at('.vdsm-tasks/parts')), [])
  })
}

t.test('after a restart the same PUT continues a half-done copy, another one is refused', async t => {
  await makeDisk(at('other.raw'), size)
  await killInTheMiddle(agent, 'same', 'same.raw')
  agent = await start()
  const before = (await agent.image('local', 'same.raw')).body.copy?.bytesDone ?? 0
  const lines = await listing(domain)
  t.match((await agent.refused('same', copySpec('other.raw', 'same.raw'))).body, { code: 'target-exists', status: 409, copyTaskId: 'same', differs: ['source'] })
  t.match((await agent.refused('create', { kind: 'storage.createImage', domain: 'local', image: 'same.raw', virtualSize: 512 })).body, { code: 'image-interrupted' })
  t.match((await agent.refused('from', copySpec('same.raw', 'from.raw'))).body, { code: 'image-interrupted', status: 409 })
  t.same((await listing(domain)).filter(line => !line.startsWith('.vdsm-tasks/leases')), lines.filter(line => !line.startsWith('.vdsm-tasks/leases')))

  t.match(await agent.done('same-2', copySpec('source.raw', 'same.raw', { verify: true })), { state: 'succeeded', result: { bytesCopied: size - before, epoch: 2, verified: true } })
  t.equal(await sha256(at('same.raw')), await sha256(at('source.raw')))
  await agent.kill()
  agent = await start()
  t.match(await agent.done('same', copySpec('source.raw', 'same.raw', { verify: true })), { state: 'succeeded', result: { alreadyDone: true, bytesCopied: 0, bytesMoved: 0 } })
})

t.test('a source that changed between crash and continuation is refused, until the half copy is deleted', async t => {
  await killInTheMiddle(agent, 'changed', 'changed.raw')
  await writeFile(at('source.raw'), 'changed', { flag: 'r+' })
  agent = await start()
  const before = await listing(domain)
  for (const spec of [mendSpec('changed.raw'), copySpec('source.raw', 'changed.raw')]) {
    t.match(await agent.refused('changed', spec), { status: 409, body: { code: 'source-changed', differs: [/modified/, /changed/] } })
  }
  t.same(await listing(domain), before, 'and nothing was changed')
  t.match(await agent.done('clean', deleteSpec('changed.raw')), { state: 'succeeded' })
  t.match(await agent.done('changed-2', copySpec('source.raw', 'changed.raw')), { state: 'succeeded' })
  t.equal(await sha256(at('changed.raw')), await sha256(at('source.raw')))
})

t.test('a missing part is no loss but of time: the copy begins anew', async t => {
  await killInTheMiddle(agent, 'partless', 'partless.raw')
  const [part = ''] = await readdir(at('.vdsm-tasks/parts'))
  await writeFile(at('.vdsm-tasks/parts/foreign'), 'not ours')
  for (const spoil of [
    async () => { await rm(at(`.vdsm-tasks/parts/${part}`)) },
    // another file of the same name and size
    async () => {
      const [name = ''] = (await readdir(at('.vdsm-tasks/parts'))).filter(name => name !== 'foreign')
      await copyFile(at(`.vdsm-tasks/parts/${name}`), at('.vdsm-tasks/parts/copied'))
      await rename(at('.vdsm-tasks/parts/copied'), at(`.vdsm-tasks/parts/${name}`))
    }
  ]) {
    await spoil()
    agent = await start()
    await agent.accept('again', mendSpec('partless.raw', { bandwidth: stalled }))
    await agent.untilDone('local', 'partless.raw', MiB)
    await agent.kill()
  }
  t.equal((await recordOf('partless.raw')).epoch, 3)
  agent = await start()
  t.match(await agent.done('last', mendSpec('partless.raw')), { state: 'succeeded', result: { epoch: 4 } })
  t.equal(await sha256(at('partless.raw')), await sha256(at('source.raw')))
  t.same(await readdir(at('.vdsm-tasks/parts')), ['foreign'])
})

t.test('SIGKILL of a copy worker or of a qemu-img fails its copy and nothing else', async t => {
  for (const [name, part, code] of [['worker', 'copy/main.js', 'storage-process-died'], ['program', 'qemu-img convert', 'copy-failed']] as const) {
    const target = `${name}.raw`
    await agent.accept(name, copySpec('source.raw', target, { bandwidth: 4 * MiB }))
    await agent.accept(`${name}-beside`, copySpec('source.raw', `${name}-beside.raw`, { bandwidth: 32 * MiB }))
    await agent.untilDone('local', target, 2 * MiB)
    // the one that works on this part: there are two copies
    const part_ = JSON.parse(await readFile(at(`.vdsm-tasks/copies/${target}.json`), 'utf8')).inode as string
    const pid = await until(async () => {
      for (const pid of agent.children(part)) {
        if (!await holdsInode(pid, part_)) continue
        // one that is done before it is killed fails nothing: what stands still does not come to its end
        try {
          process.kill(pid, 'SIGSTOP')
        } catch {
          // gone already
          continue
        }
        if (await holdsInode(pid, part_)) return pid
      }
      return undefined
    })
    process.kill(pid, 'SIGKILL')
    t.match(await agent.finished(name), { state: 'failed', error: { code, detail: /was ended by SIGKILL: .*memory/ } })
    // a write that is on its way to the disk keeps a killed qemu-img, and with it the lease, a moment longer
    await until(async () => (await agent.image('local', target)).body.state === 'interrupted')
    t.match(await agent.done(`${name}-mend`, mendSpec(target)), { state: 'succeeded', result: { epoch: 2 } })
    t.equal(await sha256(at(target)), await sha256(at('source.raw')))
    await agent.request('PATCH', `/tasks/${name}-beside`, { body: { bandwidth: null } })
    t.match(await agent.finished(`${name}-beside`), { state: 'succeeded' })
  }
})

t.test('SIGTERM ends the agent at once and leaves the copy to be continued', async t => {
  await agent.accept('stopped', copySpec('source.raw', 'stopped.raw', { bandwidth: stalled }))
  await agent.untilDone('local', 'stopped.raw', MiB)
  const below = descendants(agent.pid)
  t.equal(await agent.stop(), 0)
  await untilGone(...below)
  agent = await start()
  t.match((await agent.image('local', 'stopped.raw')).body, { state: 'interrupted' })
  t.match(await agent.done('go-on', mendSpec('stopped.raw')), { state: 'succeeded' })
  t.equal(await sha256(at('stopped.raw')), await sha256(at('source.raw')))
})

/** Whether a process has a file open. */
async function holdsInode (pid: number, inode: string): Promise<boolean> {
  const fds = await readdir(`/proc/${pid}/fd`).catch(() => [])
  const inodes = await Promise.all(fds.map(async fd => await stat(`/proc/${pid}/fd/${fd}`).then(({ ino }) => String(ino), () => '')))
  return inodes.includes(inode)
}
