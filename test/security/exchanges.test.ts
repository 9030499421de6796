import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { chmod, chown, link, lstat, mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { AgentProcess } from '../helpers/agent.ts'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sh, sha256 } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { makeOvirtDomain, putVolume, uuid } from '../helpers/ovirt.ts'
import { untilGone } from '../helpers/processes.ts'

// Somebody who may write to a domain exchanges every path that the agent opens or makes there for traps: links, hard links
// and directories that lead outside (see exchange.pl). ATTACK_EXCHANGES=10000 makes as many exchanges (some minutes).

t.setTimeout(1_800_000)

const wanted = Number(process.env['ATTACK_EXCHANGES'] ?? 800)
const seed = Number(process.env['ATTACK_SEED'] ?? 1)
const program = fileURLToPath(new URL('../helpers/exchange.pl', import.meta.url))

interface Attacker { uid: number, gid: number }

/** What is outside a domain, on its file system: root's alone, and nothing of it was touched for long. */
async function makeOutside (top: string): Promise<string> {
  const outside = join(top, 'outside')
  await mkdir(join(outside, 'folder/copies'), { recursive: true })
  for (const name of ['secret.raw', 'linked.raw', 'folder/domain.json', 'folder/copies/target.raw.json']) await writeFile(join(outside, name), randomBytes(MiB), { mode: 0o600 })
  // whoever reads something whose time of access is before that of its change sets it, also with relatime
  for (const path of await everythingIn(outside)) await utimes(path, new Date('2025-01-01'), new Date('2025-06-01'))
  return outside
}

async function everythingIn (folder: string): Promise<string[]> {
  const names = await readdir(folder, { recursive: true })
  return [...names.sort().map(name => join(folder, name)), folder]
}

/**
 * All that can be seen of what is outside. Of the file that has hard links in the domain, not when it was last read: as a name
 * in the domain it may be opened to find out that it has others.
 */
async function snapshot (outside: string): Promise<string[]> {
  return await Promise.all((await everythingIn(outside)).map(async path => {
    const { ino, mode, uid, gid, size, mtimeMs, atimeMs } = await lstat(path)
    return [path, ino, mode.toString(8), uid, gid, size, mtimeMs, path.endsWith('linked.raw') ? '' : atimeMs].join(' ')
  }))
}

async function contents (outside: string): Promise<string[]> {
  const files = (await everythingIn(outside)).filter(path => /\.\w+$/.test(path))
  return await Promise.all(files.map(sha256))
}

/** Commands of all kinds, over and over, until the attack has ended. What becomes of them does not matter. */
async function keepBusy (agent: AgentProcess, isOver: () => boolean, commands: ReadonlyArray<(put: (spec: object) => Promise<string>) => Promise<unknown>>): Promise<string[]> {
  const outcomes: string[] = []
  let count = 0
  const work = async (own: string) => {
    while (!isOver()) {
      for (const command of commands) {
        if (isOver()) return
        await command(async spec => {
          const id = `${own}-${count++}`
          const { status, body } = await agent.put(id, spec)
          if (status < 300) {
            const { state, error } = await agent.finished(id)
            outcomes.push(error?.code ?? state)
          } else outcomes.push(String((body as { code?: string }).code))
          return id
        })
      }
    }
  }
  await Promise.all(['a', 'b'].map(work))
  return outcomes
}

/** Attacks while the agent works. Returns what it has answered. */
async function attack (t: Test, { domain, outside, attacker, names, images = [], volumes = [] }: {
  domain: string, outside: string, attacker: Attacker, names: string[], images?: string[], volumes?: string[]
}, work: (isOver: () => boolean) => Promise<string[]>): Promise<string[]> {
  // other hosts need not protect hard links as Linux does (fs.protected_hardlinks); with this, neither does this one
  const rights = ['fowner', 'dac_read_search'].map(name => `+${name}`).join()
  const user = ['--reuid', String(attacker.uid), '--regid', String(attacker.gid), '--clear-groups', '--inh-caps', rights, '--ambient-caps', rights]
  const child = spawn('setpriv', [...user, '--pdeathsig', 'KILL', 'perl', program, process.arch, String(wanted), String(seed), domain, outside], {
    stdio: ['pipe', 'pipe', 'inherit'], env: { PATH: process.env['PATH'], NAMES: names.join(), IMAGES: images.join(), VOLUMES: volumes.join() }
  })
  t.teardown(async () => { child.kill('SIGKILL'); if (child.pid !== undefined) await untilGone(child.pid) })
  let said = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => { said += text })
  const ended = once(child, 'close')
  const outcomes = await work(() => child.exitCode !== null || child.signalCode !== null)
  t.strictSame(await ended, [0, null])
  t.match(said, new RegExp(`^${wanted} exchanges`))
  t.comment(said)
  return outcomes
}

const tally = (outcomes: readonly string[]) => [...new Set(outcomes)].sort().map(word => `${word}: ${outcomes.filter(other => other === word).length}`).join(', ')

t.test('a member of the group of a directory domain who exchanges all that is in it reaches nothing outside', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  await chmod(top, 0o755)
  const outside = await makeOutside(top)
  const domain = join(top, 'domain')
  const [team, member] = [2000, 1001]
  await mkdir(join(domain, '.vdsm-tasks'), { recursive: true })
  for (const room of ['copies', 'leases', 'parts', 'hosts']) await mkdir(join(domain, '.vdsm-tasks', room))
  await writeFile(join(domain, '.vdsm-tasks/domain.json'), '{"id":"shared"}')
  for (const path of [...await everythingIn(domain), domain]) {
    await chown(path, 0, team)
    await chmod(path, path.endsWith('.json') ? 0o660 : 0o2770)
  }
  await makeDisk(join(domain, 'disk.raw'), 4 * MiB, { blockBytes: MiB })
  await sh('qemu-img', 'convert', '-O', 'qcow2', join(domain, 'disk.raw'), join(domain, 'source.qcow2'))
  await utimes(join(domain, 'source.qcow2'), new Date('2026-01-01'), new Date('2026-01-01'))
  const agent = await startAgent(t, { domains: [{ id: 'shared', path: domain, owner: { uid: 0, gid: team } }], copy: { windowSeconds: 0.5, clone: false }, recovery: 'any' })
  const [hashes, before] = [await contents(outside), await resetTimes(outside)]

  const image = (image: string) => ({ domain: 'shared', image })
  const copy = (source: string, target: string, more: object = {}) => ({ kind: 'storage.copyImage', source: image(source), target: image(target), ...more })
  const remove = (name: string) => ({ kind: 'storage.deleteImage', ...image(name) })
  const outcomes = await attack(t, { domain, outside, attacker: { uid: member, gid: team }, names: ['target.raw', 'target.qcow2', 'empty.qcow2', 'disk.raw', 'source.qcow2'] }, async isOver => await keepBusy(agent, isOver, [
    async put => await put(copy('disk.raw', 'target.raw', { onExisting: 'replace' })),
    async put => await put(copy('source.qcow2', 'target.qcow2', { onExisting: 'replace', verify: true })),
    async put => await put({ kind: 'storage.mendImage', ...image('target.raw') }),
    async put => await put({ kind: 'storage.createImage', ...image('empty.qcow2'), virtualSize: MiB }),
    async () => { for (const what of ['images', 'copies', 'fixes']) await agent.request('GET', `/domains/shared/${what}`) },
    async put => { for (const name of ['empty.qcow2', 'target.raw']) await put(remove(name)) }
  ]))
  await assertAgentIsWell(t, agent, outcomes)
  await assertUntouched(t, { outside, hashes, before })
})

t.test('uid 36 who exchanges all that is in an oVirt domain reaches nothing outside', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  await chmod(top, 0o755)
  const outside = await makeOutside(top)
  const id = uuid('domain')
  const domain = await makeOvirtDomain(top, id)
  const [disk, volume] = [uuid('disk'), uuid('volume')]
  await putVolume(domain, id, disk, volume, async path => { await makeDisk(path, 4 * MiB, { blockBytes: MiB }) }, { CAP: 4 * MiB })
  for (const path of [...await everythingIn(domain), domain]) await chown(path, 36, 36)
  const agent = await startAgent(t, { domains: [{ id, layout: 'ovirt', path: domain }], copy: { windowSeconds: 0.5, clone: false }, recovery: 'any' })
  const [hashes, before] = [await contents(outside), await resetTimes(outside)]

  const images = [uuid('one'), uuid('two')] as const
  const volumes = [uuid('first'), uuid('second')] as const
  const target = (index: 0 | 1) => ({ domain: id, image: images[index], volume: volumes[index] })
  const copy = (index: 0 | 1, more: object) => ({ kind: 'storage.copyImage', source: { domain: id, image: disk, volume }, target: { ...target(index), ...more } })
  const outcomes = await attack(t, {
    domain, outside, attacker: { uid: 36, gid: 36 }, images: [...images], volumes: [...volumes], names: images.map((image, index) => `${image}.${volumes[index]}`)
  }, async isOver => await keepBusy(agent, isOver, [
    async put => await put(copy(0, {})),
    async put => await put(copy(1, { format: 'qcow2' })),
    async put => await put({ kind: 'storage.mendImage', ...target(0) }),
    async () => { for (const what of ['images', 'copies', 'fixes']) await agent.request('GET', `/domains/${id}/${what}`) },
    async put => { for (const image of images) await put({ kind: 'storage.deleteImage', domain: id, image }) }
  ]))
  await assertAgentIsWell(t, agent, outcomes)
  await assertUntouched(t, { outside, hashes, before })
})

t.test('a hard link of a file that those who write to the domain may not read is not read for them', { skip: unlessRoot }, async t => {
  const top = await temporaryDirectory(t)
  const domain = join(top, 'domain')
  await mkdir(domain)
  const agent = await startAgent(t, { domains: [{ id: 'local', path: domain, create: true }] })
  await makeDisk(join(top, 'private.raw'), MiB)
  await sh('qemu-img', 'convert', '-O', 'qcow2', join(top, 'private.raw'), join(top, 'private.qcow2'))
  for (const name of ['private.raw', 'private.qcow2']) await link(join(top, name), join(domain, name))
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'private.raw', '-F', 'raw', join(domain, 'overlay.qcow2'), '1M')
  let count = 0
  const codeOf = async (image: string) => {
    const id = `copy-${count++}`
    const { status, body } = await agent.refused(id, copySpec(image, `${id}.raw`))
    return status < 300 ? (await agent.finished(id)).state : body.code
  }
  const cases = [
    // whose the directory is and who may write to it, whose the file is and who may read it
    ['root:2000 770', 'root:root 600', 'image-invalid'], ['root:2000 770', 'root:root 640', 'image-invalid'], ['root:2000 770', 'root:2000 640', 'succeeded'],
    ['root:root 777', 'root:root 640', 'image-invalid'], ['root:root 777', 'root:root 644', 'succeeded'],
    ['36:36 755', 'root:root 600', 'image-invalid'], ['36:36 755', '36:36 600', 'succeeded'], ['root:root 755', '36:36 600', 'succeeded']
  ] as const
  const set = async (path: string, access: string) => {
    const [owner = '', mode = ''] = access.split(' ')
    await sh('chown', owner, path)
    await sh('chmod', mode, path)
  }
  for (const [directory, file, expected] of cases) {
    await set(domain, directory)
    for (const name of ['private.raw', 'private.qcow2']) await set(join(domain, name), file)
    for (const image of ['private.raw', 'private.qcow2', 'overlay.qcow2']) t.equal(await codeOf(image), expected, `${image} ${file} in ${directory}`)
  }
})

/** To compare contents, they had to be read. */
async function resetTimes (outside: string): Promise<string[]> {
  for (const path of await everythingIn(outside)) await utimes(path, new Date('2025-01-01'), new Date('2025-06-01'))
  return await snapshot(outside)
}

async function assertAgentIsWell (t: Test, agent: AgentProcess, outcomes: readonly string[]): Promise<void> {
  t.comment(tally(outcomes))
  t.ok(outcomes.length > 0, 'commands were refused, failed or succeeded')
  t.notOk(outcomes.includes('internal'), 'and none for a reason that the agent does not know')
  t.equal((await agent.request('GET', '/healthz')).status, 200)
  await agent.kill()
}

async function assertUntouched (t: Test, { outside, hashes, before }: { outside: string, hashes: string[], before: string[] }): Promise<void> {
  t.strictSame(await snapshot(outside), before, 'nothing outside was made, written, read, given away or opened to others')
  t.strictSame(await contents(outside), hashes, 'and its content is the same')
  // what the comparison of times is worth
  await readFile(join(outside, 'secret.raw'))
  const { atimeMs } = await lstat(join(outside, 'secret.raw'))
  if (atimeMs === new Date('2025-01-01').getTime()) t.comment('this file system keeps no times of access: whether something was read cannot be seen')
}
