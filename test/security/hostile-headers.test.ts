import { randomBytes, randomInt } from 'node:crypto'
import { chmod, chown, link, mkdir, open, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { CopyRecord } from '../../src/storage/record.ts'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, sh, sha256 } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { needs } from '../helpers/needs.ts'
import { until } from '../helpers/processes.ts'

needs('strace')

// Somebody who may write to a domain changes headers after the agent has looked at them. The agent is root; what the headers
// name is root's alone, outside the domain. ATTACK_ATTEMPTS=100 makes as many attempts (some minutes).

t.setTimeout(1_200_000)

const attempts = Number(process.env['ATTACK_ATTEMPTS'] ?? 6)
const marker = Buffer.from('what only root may read')
const owner = 1000

const top = await temporaryDirectory(t)
await chmod(top, 0o755)
const secret = join(top, 'secret')
await writeFile(secret, Buffer.concat([marker, randomBytes(MiB)]), { mode: 0o600 })
const domain = join(top, 'domain')
await mkdir(domain)
const at = (name: string) => join(domain, name)
const parts = at('.vdsm-tasks/parts')

/** What an attacker writes into the first cluster of an image, and how it is undone. */
const attacks = {
  'data-file': (header: Buffer) => {
    header[79] = (header[79] ?? 0) | 4
    extension(header, 0x44415441, secret)
  },
  backing: (header: Buffer) => { backing(header, secret) },
  'json: name': (header: Buffer) => { backing(header, `json:{"driver":"raw","file":{"driver":"file","filename":"${secret}"}}`) }
} as const

function extension (header: Buffer, type: number, text: string): void {
  const start = header.readUInt32BE(100)
  header.writeUInt32BE(type, start)
  header.writeUInt32BE(text.length, start + 4)
  header.fill(0, start + 8, start + 8 + Math.ceil(text.length / 8) * 8 + 8)
  header.write(text, start + 8)
}

function backing (header: Buffer, name: string): void {
  header.writeBigUInt64BE(1024n, 8)
  header.writeUInt32BE(name.length, 16)
  header.write(name, 1024)
}

/** Changes a header, keeps it so for a while, and puts it back. Returns whether there was one. */
async function tamper (path: string, attack: (header: Buffer) => void, restore: boolean): Promise<boolean> {
  const file = await open(path, 'r+')
  try {
    const header = Buffer.alloc(65536)
    await file.read(header, 0, header.length, 0)
    if (header.readUInt32BE(0) !== 0x514649fb) return false
    const before = Buffer.from(header)
    attack(header)
    await file.write(header, 0, 4096, 0)
    if (restore) {
      await sleep(randomInt(30))
      await file.write(before, 0, 4096, 0)
    }
    return true
  } finally {
    await file.close()
  }
}

async function partName (): Promise<string> {
  return join(parts, await until(async () => (await readdir(parts).catch(() => []))[0], 'a part'))
}

const log = join(top, 'strace')
const under = ['strace', '-f', '-qq', '--seccomp-bpf', '-e', 'trace=open,openat,openat2', '-o', log]
const copy = { windowSeconds: 0.5, clone: false }
const agent = unlessRoot === false ? await prepare() : undefined

async function prepare () {
  await chown(domain, owner, owner)
  await chmod(domain, 0o770)
  const agent = await startAgent(t, { domains: [{ id: 'local', path: domain, create: true }], copy, under })
  await makeDisk(at('disk.raw'), 4 * MiB, { blockBytes: MiB })
  await sh('qemu-img', 'convert', '-O', 'qcow2', at('disk.raw'), at('source.qcow2'))
  await makeOld(at('source.qcow2'))
  return agent
}

const before = await sha256(secret)

/** The lines of a log of strace, those put together again that another process has cut in two. */
function calls (log: string): string[] {
  const unfinished = new Map<string, string>()
  return log.split('\n').flatMap(line => {
    const [, pid = '', text = ''] = /^(\d+) +(.*)$/.exec(line) ?? []
    if (text.endsWith(' <unfinished ...>')) {
      unfinished.set(pid, line.slice(0, -' <unfinished ...>'.length))
      return []
    }
    const [, rest] = /^<\.\.\. \w+ resumed>(.*)$/.exec(text) ?? []
    if (rest === undefined) return [line]
    const begun = unfinished.get(pid) ?? ''
    unfinished.delete(pid)
    return [begun + rest]
  }).concat([...unfinished.values()])
}

/** Nobody has opened, read or written what is outside. */
async function assertUntouched (t: Test): Promise<void> {
  t.equal(await sha256(secret), before, 'nothing was written outside')
  const { uid, mode } = await stat(secret)
  t.strictSame([uid, mode & 0o777], [0, 0o600])
  const opened = calls(await readFile(log, 'utf8')).filter(line => line.includes(secret) && !line.includes(' = -1 '))
  t.strictSame(opened, [], 'nobody has opened it')
  for (const name of await readdir(domain)) {
    if (/\.(raw|qcow2)$/.test(name)) t.notOk((await readFile(at(name))).includes(marker), `${name} has nothing of it`)
  }
}

t.test('a header that is changed between two windows stops the copy, and names nothing that is opened', { skip: unlessRoot }, async t => {
  if (agent === undefined) throw new Error('there is an agent')
  for (const [name, attack] of Object.entries(attacks)) {
    for (const which of ['part', 'source'] as const) {
      const [id, target] = [`${which} ${name}`.replaceAll(/\W/g, '-'), `stopped-${which}.qcow2`]
      await writeFile(at('victim.qcow2'), await readFile(at('source.qcow2')))
      await makeOld(at('victim.qcow2'))
      await agent.accept(id, copySpec('victim.qcow2', target, { bandwidth: stalled }))
      t.ok(await tamper(which === 'part' ? await partName() : at('victim.qcow2'), attack, false))
      await agent.request('PATCH', `/tasks/${id}`, { body: { bandwidth: null } })
      const { state, error } = await agent.finished(id)
      t.strictSame([state, error?.code], ['failed', 'header-changed'], `${which}, ${name}: ${error?.detail}`)
      await agent.done(`delete-${id}`, { kind: 'storage.deleteImage', domain: 'local', image: target })
    }
  }
  await assertUntouched(t)
})

t.test(`${attempts} headers that are changed at random moments open nothing`, { skip: unlessRoot }, async t => {
  if (agent === undefined) throw new Error('there is an agent')
  const kinds = Object.values(attacks)
  let hits = 0
  for (let attempt = 0; attempt < attempts; attempt++) {
    const attack = kinds[attempt % kinds.length] ?? attacks.backing
    await writeFile(at('moving.qcow2'), await readFile(at('source.qcow2')))
    await makeOld(at('moving.qcow2'))
    const target = `random-${attempt}.qcow2`
    const ended = agent.put(`random-${attempt}`, copySpec('moving.qcow2', target)).then(async ({ status }) => { if (status < 300) await agent.finished(`random-${attempt}`) })
    const over = ended.then(() => true)
    await sleep(randomInt(400))
    while (!await Promise.race([over, sleep(randomInt(20), false)])) {
      const [part] = await readdir(parts)
      const path = attempt % 2 === 0 || part === undefined ? at('moving.qcow2') : join(parts, part)
      if (await tamper(path, attack, true).catch(() => false)) hits++
    }
    await agent.done(`delete-${attempt}`, { kind: 'storage.deleteImage', domain: 'local', image: target }).catch(() => { /* refused: nothing is left */ })
  }
  t.ok(hits > 0, `${hits} headers were changed`)
  await assertUntouched(t)
})

t.test('a forged record, with a part of its own choice, gives nothing away and writes nothing outside', { skip: unlessRoot }, async t => {
  if (agent === undefined) throw new Error('there is an agent')
  await agent.accept('forged', copySpec('disk.raw', 'forged.raw', { bandwidth: stalled }))
  await agent.accept('forged-2', copySpec('disk.raw', 'forged.qcow2', { bandwidth: stalled }))
  await agent.kill()
  const recordOf = async (image: string): Promise<CopyRecord> => JSON.parse(await readFile(at(`.vdsm-tasks/copies/${image}.json`), 'utf8'))
  const forge = async ({ bandwidth: _, ...record }: CopyRecord) => { await writeFile(at(`.vdsm-tasks/copies/${record.image}.json`), JSON.stringify(record)) }
  // a raw part that is another name of a file outside
  const outside = join(top, 'outside.raw')
  await writeFile(outside, randomBytes(4 * MiB), { mode: 0o600 })
  const outsideBefore = await sha256(outside)
  const raw = await recordOf('forged.raw')
  await rm(join(parts, raw.copyId))
  await link(outside, join(parts, raw.copyId))
  await forge({ ...raw, inode: String((await stat(outside, { bigint: true })).ino) })
  // a qcow2 part whose data is elsewhere, and that is almost complete
  const qcow2 = await recordOf('forged.qcow2')
  await tamper(join(parts, qcow2.copyId), attacks['data-file'], false)
  await forge({ ...qcow2, done: [[0, 3 * MiB]], begun: [] })

  const other = await startAgent(t, { domains: [{ id: 'local', path: domain }], recovery: 'any', copy, under })
  for (const image of ['forged.raw', 'forged.qcow2']) {
    await until(async () => (await other.image('local', image)).body.state === 'ok', `${image} to be recovered`)
    t.equal(await sh('qemu-img', 'compare', at(image), at('disk.raw')), 'Images are identical.\n', image)
  }
  t.equal(await sha256(outside), outsideBefore)
  const { uid, gid, mode } = await stat(outside)
  t.strictSame([uid, gid, mode & 0o777], [0, 0, 0o600], 'what has another name outside is given to nobody')
  await assertUntouched(t)
  await other.kill()
})
