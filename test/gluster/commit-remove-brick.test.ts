import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'
import type { AppError } from '../../src/errors.ts'
import { Gluster } from '../../src/gluster/cli.ts'
import { commitRemoveBrick } from '../../src/gluster/commit-remove-brick.ts'
import { Turns } from '../../src/gluster/turns.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { commandLine, descendants } from '../helpers/processes.ts'

const brick = 'node2:/srv/1/v0'
const spec = { kind: 'gluster.commitRemoveBrick' as const, volume: 'v0', bricks: [brick] }

interface Fake {
  /** Replaces answers, as shell patterns of the command line with what is printed. */
  answers?: Record<string, string>
  /** What glusterfs does in place of mounting the brick `$brick` at the path `$at`. */
  glusterfs?: string
  /** Where the brick is to be given up soon; a loaded machine takes its time for a child process. */
  brickSilenceMs?: number
}

interface World {
  commit (options?: { force?: boolean, replica?: number }): Promise<object>
  /** The commands that would have taken bricks out. */
  taken (): Promise<string[]>
  brick: string
}

/** A volume whose removal Gluster calls completed, and a brick that a directory stands for. */
async function world (t: Test, { answers = {}, glusterfs = 'mount --bind "$brick" "$at"; exec sleep 1000', brickSilenceMs = 60_000 }: Fake = {}): Promise<World> {
  const folder = await temporaryDirectory(t)
  const here = join(folder, 'brick')
  await mkdir(here)
  await writeFile(join(folder, 'volfile'), `volume v0-client-1
    type protocol/client
    option remote-host node2
    option remote-subvolume /srv/1/v0
end-volume
`)
  const own = Object.entries(answers).map(([pattern, text], index) => ({ pattern, text, file: join(folder, `answer${index}`) }))
  await Promise.all(own.map(async ({ file, text }) => { await writeFile(file, text) }))
  await writeFile(join(folder, 'gluster'), `#!/bin/sh
echo "$*" >> '${folder}/calls'
cd '${fileURLToPath(new URL('../fixtures/gluster/', import.meta.url))}'
case "$*" in
${own.map(({ pattern, file }) => `  *'${pattern}'*) cat '${file}';;`).join('\n')}
  *getspec*) cat '${folder}/volfile';;
  *'pool list'*) cat pool-list.xml;;
  *'volume info'*) cat rb3-info.xml;;
  *'status v0 tasks'*) sed 's/599f20be-c518-4fb4-b2a4-0941018bed24/ec377493-9339-435c-ad85-234e427a38bf/' rb3-tasks.xml;;
  *remove-brick*status*) cat rb3-status-done.xml;;
  *remove-brick*) cat rb3-commit.xml;;
  *) cat set-while-running.xml;;
esac
`)
  await writeFile(join(folder, 'glusterfs'), `#!/bin/sh
brick='${here}'
for at; do :; done
${glusterfs}
`)
  await Promise.all(['gluster', 'glusterfs'].map(async name => { await chmod(join(folder, name), 0o755) }))
  const { PATH } = process.env
  process.env['PATH'] = `${folder}${delimiter}${PATH}`
  t.teardown(() => { process.env['PATH'] = PATH })
  const workshop = {
    gluster: new Gluster(), hostId: 'node1', retentionSeconds: 900, turns: new Turns(), brickSilenceMs, changed: () => {}
  }
  return {
    brick: here,
    commit: async options => await commitRemoveBrick(workshop).run({ ...spec, ...options }, {
      id: 'commit', signal: AbortSignal.timeout(60_000), accepting: () => {}, accepted: () => {}, log: { warn: () => {} }
    }),
    taken: async () => (await readFile(join(folder, 'calls'), 'utf8')).split('\n').filter(call => / (commit|force)$/.test(call))
  }
}

async function refusal (work: Promise<object>): Promise<AppError> {
  return await work.then(result => { throw new Error(`done: ${JSON.stringify(result)}`) }, (error: AppError) => error)
}

t.test('the bricks that Gluster calls emptied are looked into', { skip: unlessRoot }, async t => {
  t.test('an empty one is taken out', async t => {
    const { commit, taken, brick } = await world(t)
    await mkdir(join(brick, 'directory'))
    t.match(await commit(), { operationId: String, final: { state: 'completed' } })
    t.match(await taken(), [/remove-brick v0 .* commit$/])
  })

  t.test('one with files is not, and they are counted', async t => {
    const { commit, taken, brick } = await world(t)
    await mkdir(join(brick, '.shard'))
    await writeFile(join(brick, '.shard/1'), 'data')
    await writeFile(join(brick, 'file'), '')
    t.match(await refusal(commit()), {
      code: 'bricks-not-empty',
      changed: false,
      message: /node2:\/srv\/1\/v0 holds 2 files.*"restart": true/,
      members: { filesLeft: 2, bricks: [{ brick: 'node2:/srv/1/v0', files: 2 }] }
    })
    t.strictSame(await taken(), [])
    t.match(await commit({ force: true }), { operationId: String }, 'with force it is')
    t.match(await taken(), [/ force$/])
  })

  t.test('nothing is left of the look', async t => {
    const { commit, brick } = await world(t)
    await commit()
    t.strictSame(descendants(process.pid).map(commandLine).filter(line => line.includes(brick) || line.includes('gluster/brick/main')), [])
    t.notOk((await readFile('/proc/self/mountinfo', 'utf8')).includes(brick))
  })

  for (const [how, glusterfs, problem] of [
    ['hangs', 'exec sleep 1000', /has not answered for 3000 ms/],
    ['refuses the client', 'echo "no permission" >&2; exit 1', /status 1: no permission/],
    ['lets go of it', 'mount --bind "$brick" "$at"; exec 1>&2; chmod 0 /dev/null/x; sleep 0.2; exit 1', undefined]
  ] as const) {
    t.test(`a brick that ${how} was not looked into`, async t => {
      const { commit, taken, brick } = await world(t, { glusterfs, ...(how === 'hangs' && { brickSilenceMs: 3000 }) })
      // so that the look takes longer than the mount lives
      if (problem === undefined) await writeFile(join(brick, 'file'), '')
      const error = await refusal(commit())
      t.match(error, problem === undefined ? { code: /bricks/ } : { code: 'bricks-unchecked', changed: false, members: { bricks: [{ problem }] } })
      t.strictSame(await taken(), [])
      t.strictSame(descendants(process.pid).map(commandLine).filter(line => line.includes('gluster/brick/main')), [])
    })
  }

  t.test('without a way to the brick in the volume file nothing is taken out', async t => {
    const { commit, taken } = await world(t, { answers: { getspec: 'volume v0\nend-volume\n' } })
    t.match(await refusal(commit()), { code: 'bricks-unchecked', message: /does not show how to reach it/ })
    t.strictSame(await taken(), [])
  })
})

const replicated = (await readFile(new URL('../fixtures/gluster/rb3-info.xml', import.meta.url), 'utf8'))
  .replace(/<replicaCount>\d+<\/replicaCount>/, '<replicaCount>3</replicaCount>')

function healInfo (entries: Record<string, number | string>): string {
  const bricks = Object.entries(entries).map(([name, value]) => `<brick hostUuid="-"><name>${name}</name>${typeof value === 'string'
    ? `<status>${value}</status>`
    : `<status>Connected</status><totalNumberOfEntries>${value}</totalNumberOfEntries>`}</brick>`)
  return `<cliOutput><healInfo><bricks>${bricks.join('')}</bricks></healInfo><opRet>0</opRet><opErrno>0</opErrno><opErrstr/></cliOutput>`
}

t.test('replicas are reduced without force when no file waits to be healed, on any brick', async t => {
  const tasks = '<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/><volStatus><volumes><volume><volName>v0</volName><tasks/></volume></volumes></volStatus></cliOutput>'
  const answers = { 'volume info': replicated, 'status v0 tasks': tasks }
  const clean = { 'node1:/srv/1/v0': 0, 'node2:/srv/1/v0': 0, 'node3:/srv/1/v0': 0 }
  for (const [heals, code] of [
    [clean, undefined],
    [{ ...clean, 'node1:/srv/1/v0': 3 }, 'heals-pending'],
    [{ ...clean, 'node2:/srv/1/v0': 1 }, 'heals-pending'],
    [{ ...clean, 'node3:/srv/1/v0': 'Transport endpoint is not connected' }, 'bricks-unchecked'],
    [{ 'node1:/srv/1/v0': 0, 'node2:/srv/1/v0': 0 }, 'bricks-unchecked']
  ] as const) {
    await t.test(JSON.stringify(heals), async t => {
      const { commit, taken } = await world(t, { answers: { ...answers, 'info summary': healInfo(heals) } })
      if (code === undefined) {
        await commit({ replica: 2 })
        t.match(await taken(), [/replica 2 node2:\/srv\/1\/v0 force$/])
      } else {
        t.match(await refusal(commit({ replica: 2 })), { code, changed: false, message: /commit again/ })
        t.strictSame(await taken(), [])
        await commit({ replica: 2, force: true })
      }
    })
  }
})

t.test('heals on the bricks that stay keep a whole set from being taken out', { skip: unlessRoot }, async t => {
  const { commit, taken } = await world(t, {
    answers: { 'volume info': replicated, 'info summary': healInfo({ 'node1:/srv/1/v0': 0, 'node2:/srv/1/v0': 7, 'node3:/srv/1/v0': 2 }) }
  })
  t.match(await refusal(commit()), { code: 'heals-pending', members: { pendingHeals: [{ brick: 'node3:/srv/1/v0', entries: 2 }] } })
  t.strictSame(await taken(), [])
})
