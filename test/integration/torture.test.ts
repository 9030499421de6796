import { randomBytes } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Test } from 'tap'
import type { TaskSpec } from '../../src/api/kinds.ts'
import { copySpec, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, KiB, makeDisk, MiB } from '../helpers/images.ts'
import { seeded } from '../helpers/seeded.ts'

// Kills the agent at random instants, again and again; `npm run torture` runs long. TORTURE_SEED repeats the choices of a run, though not its instants: those are the machine's.

const kills = Number(process.env['TORTURE_KILLS'] ?? 20)
const seed = Number(process.env['TORTURE_SEED'] ?? randomBytes(4).readUInt32LE())
t.setTimeout(120_000 + kills * 20_000)
t.comment(`TORTURE_SEED=${seed}`)

const random = seeded(seed)
const pick = <T> (list: readonly T[]): T => list[Math.floor(random() * list.length)] as T

const domain = await temporaryDirectory(t)
const at = (name: string) => join(domain, name)
const formatOf = (name: string) => name.endsWith('.raw') ? 'raw' as const : 'qcow2' as const
const start = async (): Promise<AgentProcess> => await startAgent(t, {
  domains: [{ id: 'local', path: domain, create: true }], copy: { windowSeconds: 0.5, parallelWindows: pick([1, 2, 3]) }
})

let agent = await start()
const sources = ['source.raw', 'source.qcow2']
await makeDisk(at('source.raw'), 20 * MiB + 300, { blockBytes: 1500 * KiB })
await agent.done('make-source', copySpec('source.raw', 'source.qcow2'))
await agent.done('make-base', copySpec('source.raw', 'base.raw'))

const targets = ['a.raw', 'b.raw', 'c.qcow2', 'd.qcow2']
/** What each target was last told to become. */
const commands = new Map<string, TaskSpec>()
const counts = new Map<string, number>()
const count = (what: string) => { counts.set(what, (counts.get(what) ?? 0) + 1) }

const isWhole = async (target: string) => await compare({ path: at('base.raw'), format: 'raw' }, { path: at(target), format: formatOf(target) }) === identical

/** Looks at what a kill has left of a target, and returns the command to go on with. */
async function judge (t: Test, target: string): Promise<TaskSpec | undefined> {
  const { status, body } = await agent.image('local', target)
  const command = commands.get(target)
  if (status === 404) {
    t.notOk((await readdir(domain)).includes(target))
    count('absent')
    return command?.kind === 'storage.deleteImage' ? undefined : command
  }
  if (status !== 200) throw new Error(JSON.stringify(body))
  if (body.state === 'ok') {
    t.ok(await isWhole(target), `${target} is ok: it is whole`)
    count('whole')
    // the same command is confirmed at once; sometimes the image is deleted, to begin anew
    return random() < 0.3 || command?.kind === 'storage.deleteImage' ? { kind: 'storage.deleteImage', domain: 'local', image: target } : command
  }
  t.ok(body.state === 'interrupted' || body.state === 'illegal', `${target} is ${body.state}`)
  const fixes = (await agent.fixes('local')).find(({ image }) => image === target)?.fixes
  t.same(fixes, body.fixes, `${target} is explained: ${body.detail}`)
  t.ok(body.fixes.length > 0)
  count(`${body.state} ${body.copy?.phase ?? ''}`)
  if (command !== undefined && body.state === 'interrupted' && random() < 0.3) return command
  return pick(body.fixes).task
}

/** Parts that no record speaks of. */
async function strays (): Promise<string[]> {
  const records = await Promise.all((await readdir(at('.vdsm-tasks/copies'))).map(async name => await readFile(at(`.vdsm-tasks/copies/${name}`), 'utf8')))
  return (await readdir(at('.vdsm-tasks/parts'))).filter(part => !records.some(record => record.includes(part)))
}

t.test('killed at any instant, an image is absent, explained, or whole', async t => {
  for (let kill = 0; kill < kills; kill++) {
    for (const target of targets.filter(() => random() < 0.5)) {
      const next = await judge(t, target)
      const fresh = copySpec(pick(sources), target, { verify: random() < 0.3, ...(random() < 0.7 && { bandwidth: pick([6, 12]) * MiB + 1 }) }) as TaskSpec
      // a mend goes on with what was told before
      const command = next ?? fresh
      if (command.kind !== 'storage.mendImage') commands.set(target, command)
      // half of the kills are to come after the accept step, however slow the machine is
      const { status, body } = await agent.put(`${target}-${kill}`, command, { prefer: random() < 0.5 ? 'respond-async' : 'wait=60' })
      t.ok(status === 202, JSON.stringify(body).slice(0, 300))
    }
    await sleep(random() ** 2 * 1500)
    await agent.kill()
    agent = await start()
    t.same(await strays(), [], `kill ${kill}: every part has its record`)
    for (const target of targets) await judge(t, target)
  }
  t.comment(JSON.stringify(Object.fromEntries([...counts].sort())))
  t.ok(counts.size >= 3, 'different things were hit')
})

t.test('in the end everything can be mended, and nothing is left over', async t => {
  for (const target of targets) {
    for (let round = 0; ; round++) {
      const { status, body } = await agent.image('local', target)
      if (status === 200 && body.state === 'ok') break
      const [fix] = body.fixes ?? []
      const { state, error } = await agent.done(`end-${target}-${round}`, fix?.task ?? copySpec('source.raw', target))
      t.equal(state, 'succeeded', error?.detail ?? '')
    }
    t.ok(await isWhole(target), target)
  }
  t.same(await agent.fixes('local'), [])
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same((await readdir(domain)).sort(), ['.vdsm-tasks', 'base.raw', ...sources, ...targets].sort())
  const records = await readdir(at('.vdsm-tasks/copies'))
  t.ok(records.length >= targets.length, `${records.length} records`)
  for (const name of records) {
    t.match(JSON.parse(await readFile(at(`.vdsm-tasks/copies/${name}`), 'utf8')), { phase: 'done' }, name)
  }
})
