import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Gluster } from '../../src/gluster/cli.ts'
import { replaceBrick, resetBrick } from '../../src/gluster/replace-brick.ts'
import { Turns } from '../../src/gluster/turns.ts'
import type { VerbContext, Workshop } from '../../src/gluster/verb.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { outputOf } from './fixture.ts'

const names = ['node1:/srv/4/a1', 'node2:/srv/4/a1', 'node3:/srv/4/a1']
const [replicated = ''] = /<volume>\s*<name>a1<[^]*?<\/volume>/.exec(outputOf('many-info')) ?? []
const info = `<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/><volInfo><volumes>${replicated}<count>1</count></volumes></volInfo></cliOutput>`

interface Heals { entries?: Array<number | undefined>, volume?: string }

/** A gluster with a volume of three replicas; `entries` is what waits on each, undefined on a brick that is down. */
async function workshopOf (t: Test, { entries = [0, 0, 0], volume = info }: Heals = {}): Promise<{ workshop: Workshop, done: () => Promise<string> }> {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  const bricks = names.map((name, index) => `<brick><name>${name}</name>${entries[index] === undefined ? '<status>Transport endpoint is not connected</status><totalNumberOfEntries>-</totalNumberOfEntries>' : `<status>Connected</status><totalNumberOfEntries>${entries[index]}</totalNumberOfEntries>`}</brick>`)
  await writeFile(join(folder, 'info'), volume)
  await writeFile(join(folder, 'heals'), `<cliOutput><healInfo><bricks>${bricks.join('')}</bricks></healInfo><opRet>0</opRet><opErrno>0</opErrno><opErrstr/></cliOutput>`)
  await writeFile(command, `#!/bin/sh
cd '${folder}'
shift 2
case "$*" in
  'volume info'*) cat info;;
  'volume heal'*summary) cat heals;;
  *) echo "$*" >> done; echo '<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/></cliOutput>';;
esac
`)
  await chmod(command, 0o755)
  const workshop = { gluster: new Gluster({ command }), hostId: 'h', retentionSeconds: 900, turns: new Turns(), changed: () => {} }
  return { workshop, done: async () => await readFile(join(folder, 'done'), 'utf8').catch(() => '') }
}

/** A task that is canceled as soon as it is accepted: what it waits for then never comes here. */
function canceledContext (): VerbContext & { accepted: () => void } {
  const canceling = new AbortController()
  return { id: 'task', signal: canceling.signal, accepting: () => {}, accepted: () => { canceling.abort(new Error('canceled')) }, log: { warn: () => {} } }
}

const replacement = { kind: 'gluster.replaceBrick', volume: 'a1', brick: names[2] ?? '', by: 'node3:/srv/5/a1' } as const
const replaced = 'volume replace-brick a1 node3:/srv/4/a1 node3:/srv/5/a1 commit force\n'

t.test('a brick that may have the only good copy is not replaced, unless by force', async t => {
  for (const [entries, code, detail] of [
    [[0, 0, 3], 'heals-pending', /3 entries on node3/],
    [[2, 0, 0], 'heals-pending', /2 entries on node1/],
    [[0, undefined, 0], 'bricks-unchecked', /node2:\/srv\/4\/a1: Transport/],
    [[undefined, undefined, undefined], 'bricks-unchecked', /node1.*node2/]
  ] as const) {
    const { workshop, done } = await workshopOf(t, { entries: [...entries] })
    await t.rejects(replaceBrick(workshop).run(replacement, canceledContext()), { code, message: detail }, entries.join())
    await t.rejects(resetBrick(workshop).run({ kind: 'gluster.resetBrick', volume: 'a1', brick: replacement.brick, step: 'start' }, canceledContext()), { code })
    t.equal(await done(), '', 'nothing was done')
    await t.rejects(replaceBrick(workshop).run({ ...replacement, force: true }, canceledContext()), /canceled/)
    t.equal(await done(), replaced)
  }
})

t.test('a brick that is down is replaced when the others are there, whatever waits for it', async t => {
  for (const entries of [[5, 5, undefined], [0, 0, 0]]) {
    const { workshop, done } = await workshopOf(t, { entries })
    await t.rejects(replaceBrick(workshop).run(replacement, canceledContext()), /canceled/, 'it waits for the healing')
    t.equal(await done(), replaced)
  }
})

t.test('a brick without a copy elsewhere, and one that is not there, are refused', async t => {
  const alone = await workshopOf(t, { volume: outputOf('rb3-info') })
  await t.rejects(replaceBrick(alone.workshop).run({ ...replacement, volume: 'v0', brick: 'node2:/srv/1/v0', force: true }, canceledContext()), { code: 'not-supported', message: /startRemoveBrick/ })
  const { workshop, done } = await workshopOf(t)
  await t.rejects(replaceBrick(workshop).run({ ...replacement, brick: 'node3:/srv/9/a1' }, canceledContext()), { code: 'brick-not-found' })
  await t.rejects(replaceBrick(workshop).run({ ...replacement, by: names[0] ?? '' }, canceledContext()), { code: 'bad-request' })
  t.equal(await done() + await alone.done(), '')
})

t.test('a reset takes a brick out, and later in again at the same place', async t => {
  const { workshop, done } = await workshopOf(t)
  const reset = { kind: 'gluster.resetBrick', volume: 'a1', brick: replacement.brick } as const
  t.strictSame(await resetBrick(workshop).run({ ...reset, step: 'start' }, canceledContext()), { volume: 'a1', brick: reset.brick, healed: false })
  await t.rejects(resetBrick(workshop).run({ ...reset, step: 'commit' }, canceledContext()), /canceled/, 'it waits for the healing')
  t.equal(await done(), `volume reset-brick a1 ${reset.brick} start\nvolume reset-brick a1 ${reset.brick} ${reset.brick} commit force\n`)
})

t.test('a replacement that was done before is not done again', async t => {
  const { workshop, done } = await workshopOf(t)
  await t.rejects(replaceBrick(workshop).run({ ...replacement, brick: 'node3:/srv/9/a1', by: names[2] ?? '' }, canceledContext()), /canceled/, 'only its healing is waited for')
  t.equal(await done(), '')
})
