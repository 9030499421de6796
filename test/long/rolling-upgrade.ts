import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import type { ImageStatus } from '../../src/api/image.ts'
import { prepareArea } from '../../src/storage/area.ts'
import { copySpec, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { compare, identical, makeDisk, MiB, sh } from '../helpers/images.ts'
import { makeOvirtDomain, uuid } from '../helpers/ovirt.ts'
import { until } from '../helpers/processes.ts'

// Hosts are upgraded one after the other: an agent of an earlier commit and this one share a domain, and each goes on with
// what the other one has left. The earlier commit is built from the history of the project.

const commit = process.env['OLD_COMMIT'] ?? 'ce139a2'
const rounds = Number(process.env['UPGRADE_ROUNDS'] ?? 4)
t.setTimeout(600_000 + rounds * 120_000)

const home = fileURLToPath(new URL('../../', import.meta.url))
const isThere = await sh('git', '-C', home, 'cat-file', '-e', `${commit}^{commit}`).then(() => true, () => false)

/** Builds the earlier commit in a directory of its own. Returns its program. */
async function buildOld (t: Test): Promise<string> {
  const tree = join(await temporaryDirectory(t), 'old')
  await sh('git', '-C', home, 'worktree', 'add', '--quiet', '--detach', tree, commit)
  t.teardown(async () => { await sh('git', '-C', home, 'worktree', 'remove', '--force', tree) })
  // with the packages of that time
  await promisify(execFile)('npm', ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund'], { cwd: tree })
  await promisify(execFile)(process.execPath, ['scripts/build.mjs'], { cwd: tree })
  return join(tree, 'dist/main.js')
}

interface Place { domain: string, image: string, volume?: string, format: 'raw' | 'qcow2', file: string }

t.test('an earlier agent and this one share domains', { skip: isThere ? false : `${commit} is not in the history here` }, async t => {
  const root = await temporaryDirectory(t)
  const path = join(root, 'images')
  const domain = uuid('domain')
  const ovirt = await makeOvirtDomain(root, domain)
  await prepareArea({ id: 'local', path }, true)
  const source = join(path, 'source.raw')
  await makeDisk(source, 16 * MiB)
  const oldMain = await buildOld(t)
  const start = async (hostId: 'old' | 'new') => await startAgent(t, {
    hostId, domains: [{ id: 'local', path }, { id: domain, path: ovirt, layout: 'ovirt' }], copy: { windowSeconds: 0.5 }, ...(hostId === 'old' && { main: oldMain })
  })
  const agents = { old: await start('old'), new: await start('new') }
  t.not((await agents.old.request('GET', '/openapi.json')).body, (await agents.new.request('GET', '/openapi.json')).body, 'they are two versions')

  const made: Place[] = []
  const place = (name: string, where: 'raw' | 'qcow2' | 'ovirt'): Place => {
    const [image, volume] = where === 'ovirt' ? [uuid(`image ${name}`), uuid(`volume ${name}`)] : [`${name}.${where}`, undefined]
    const found: Place = volume === undefined
      ? { domain: 'local', image, format: where === 'qcow2' ? 'qcow2' : 'raw', file: join(path, image) }
      : { domain, image, volume, format: 'raw', file: join(ovirt, 'images', image, volume) }
    made.push(found)
    return found
  }
  const targetOf = ({ domain, image, volume }: Place) => ({ domain, image, ...(volume !== undefined && { volume }) })
  const copyTo = (to: Place, more: object = {}) => copySpec('source.raw', '', { target: targetOf(to), ...more })

  /** What a look by every agent finds of an image. */
  const looks = async ({ domain, image }: Place, who: AgentProcess[]): Promise<ImageStatus[]> =>
    await Promise.all(who.map(async agent => (await agent.image(domain, image)).body))

  const isWhole = async (t: Test, to: Place, words: string) => {
    const both = Object.values(agents)
    await until(async () => (await looks(to, both)).every(({ state }) => state === 'ok'), `${to.image} to be ok: ${JSON.stringify(await looks(to, both))}`)
    for (const { fixes } of await looks(to, both)) t.same(fixes, [], words)
    t.equal(await compare({ path: source, format: 'raw' }, { path: to.file, format: to.format }), identical, words)
  }
  /** Nothing that is whole is called anything else by anybody, and nothing is offered that would remove it. */
  const isAllWell = async (t: Test) => {
    for (const [name, agent] of Object.entries(agents)) {
      for (const id of ['local', domain]) {
        t.same(await agent.fixes(id), [], `${name} offers nothing in ${id}`)
        t.same((await agent.copies(id)).filter(({ state }) => state !== 'done'), [], `for ${name}, all copies in ${id} are done`)
      }
      for (const to of made) for (const { state } of await looks(to, [agent])) t.equal(state, 'ok', `${to.image} for ${name}`)
    }
  }

  await t.test('both copy, and each sees what the other one has copied', async t => {
    for (const [name, agent] of Object.entries(agents)) {
      for (const where of ['raw', 'qcow2', 'ovirt'] as const) {
        const to = place(`by-${name}`, where)
        t.match(await agent.done(`${where}-by-${name}`, copyTo(to, { verify: where === 'qcow2' })), { state: 'succeeded' })
        await isWhole(t, to, `${where} by ${name}`)
        const other = name === 'old' ? agents.new : agents.old
        t.match(await other.done(`again-${where}-by-${name}`, copyTo(to, { verify: where === 'qcow2' })), { state: 'succeeded', result: { alreadyDone: true } })
      }
    }
    await isAllWell(t)
  })

  for (const [killed, left] of [['new', 'old'], ['old', 'new']] as const) {
    await t.test(`what ${killed} was copying when it was killed, ${left} continues`, async t => {
      for (let round = 0; round < rounds; round++) {
        const targets = (['raw', 'qcow2', 'ovirt'] as const).map(where => place(`${killed}-${round}`, where))
        for (const [index, to] of targets.entries()) {
          await agents[killed].accept(`k-${killed}-${round}-${index}`, copyTo(to, { bandwidth: 8 * MiB, verify: index === round % 3 }))
        }
        for (const to of targets) t.match((await looks(to, [agents[left]]))[0]?.state, /^(copying|ok)$/, `${left} sees the copy of ${killed}`)
        // at any time up to its end, and a little beyond
        await sleep((round + 0.5) / rounds * 2500)
        await agents[killed].kill()
        for (const [index, to] of targets.entries()) {
          const status = await until(async () => {
            const [found] = await looks(to, [agents[left]])
            return found !== undefined && found.state !== 'copying' && found
          })
          t.match(status.state, /^(interrupted|ok)$/, JSON.stringify(status.detail))
          if (status.state === 'ok') continue
          const [mend] = status.fixes
          t.match(mend, { action: 'mend', task: { kind: 'storage.mendImage' } })
          t.match(await agents[left].done(`m-${killed}-${round}-${index}`, mend?.task), { state: 'succeeded' })
        }
        agents[killed] = await start(killed)
        for (const to of targets) await isWhole(t, to, `round ${round}`)
      }
      await isAllWell(t)
    })
  }

  await t.test('what one of them offers, the other one takes', async t => {
    for (const [offering, taking] of [['new', 'old'], ['old', 'new']] as const) {
      for (const action of ['mend', 'clean'] as const) {
        for (const where of ['raw', 'ovirt'] as const) {
          const to = place(`${offering}-${action}`, where)
          const id = `offer-${offering}-${action}-${where}`
          await agents[taking].accept(id, copyTo(to, { bandwidth: 1 }))
          await agents[taking].request('DELETE', `/tasks/${id}`)
          t.match(await agents[taking].finished(id), { state: 'canceled' })
          const fix = await until(async () => (await looks(to, [agents[offering]]))[0]?.fixes.find(fix => fix.action === action))
          const task = action === 'mend' ? { ...fix.task, bandwidth: 1024 * MiB } : fix.task
          // an agent that does not know what an offer is for refuses it: it could only do it to whatever is there
          const isUnknown = 'copyId' in task && taking === 'old'
          if (isUnknown) t.match(await agents[taking].refused(`${id}-refused`, task), { status: 400, body: { code: 'bad-request' } })
          const taken = isUnknown ? { kind: task.kind, ...targetOf(to) } : task
          t.match(await agents[taking].done(`${id}-taken`, taken), { state: 'succeeded' }, `${action} of ${offering} by ${taking}`)
          if (action === 'mend') await isWhole(t, to, id)
          else {
            made.splice(made.indexOf(to), 1)
            for (const agent of Object.values(agents)) await until(async () => (await agent.image(to.domain, to.image)).status === 404)
          }
        }
      }
    }
    await isAllWell(t)
  })

  await t.test('each deletes what the other one has copied', async t => {
    for (const [index, to] of made.entries()) {
      const agent = index % 2 === 0 ? agents.old : agents.new
      t.match(await agent.done(`delete-${index}`, { kind: 'storage.deleteImage', ...targetOf(to) }), { state: 'succeeded' })
    }
    made.length = 0
    await isAllWell(t)
  })
})
