import { chmod, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { Gluster } from '../../src/gluster/cli.ts'
import { setThrottle, shardWarning, throttleOf, throttleWarning } from '../../src/gluster/throttle.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { outputOf } from './fixture.ts'

const signal = new AbortController().signal

/** A gluster with this list of hosts; what it was told to set. */
async function glusterWith (t: Test, pool: string, options = ''): Promise<{ gluster: Gluster, set: () => Promise<string> }> {
  const folder = await temporaryDirectory(t)
  const command = join(folder, 'gluster')
  await writeFile(join(folder, 'pool'), pool)
  await writeFile(join(folder, 'info'), outputOf('rb3-info').replace(/<options>/, `<options>${options}`))
  await writeFile(command, `#!/bin/sh
cd '${folder}'
case "$*" in
  *'pool list'*) cat pool;;
  *'volume info'*) cat info;;
  *'volume set'*) echo "$*" >> set; echo '<cliOutput><opRet>0</opRet><opErrno>0</opErrno><opErrstr/></cliOutput>';;
esac
`)
  await chmod(command, 0o755)
  return { gluster: new Gluster({ command }), set: async () => await readFile(join(folder, 'set'), 'utf8').catch(() => '') }
}

const lazy = '<option><name>cluster.rebal-throttle</name><value>lazy</value></option>'
const away = outputOf('pool-list').replace('<connected>1</connected>', '<connected>0</connected>')

t.test('the throttle is an option of the volume, set only when it is another one', async t => {
  const { gluster, set } = await glusterWith(t, outputOf('pool-list'), lazy)
  await setThrottle(gluster, 'v0', 'lazy')
  t.equal(await set(), '')
  await setThrottle(gluster, 'v0', 'aggressive')
  t.match(await set(), 'volume set v0 cluster.rebal-throttle aggressive')
  t.equal(throttleOf({ options: new Map() }), 'normal', 'Gluster\'s default')
  t.equal(throttleOf({ options: new Map([['cluster.rebal-throttle', 'lazy']]) }), 'lazy')
  t.equal(throttleOf({ options: new Map([['cluster.rebal-throttle', '7']]) }), undefined)
})

t.test('it is not changed while a host is away; a start warns of that', async t => {
  const { gluster, set } = await glusterWith(t, away)
  await t.rejects(setThrottle(gluster, 'v0', 'lazy'), { code: 'host-away', message: /node2 is away/ })
  t.match(await throttleWarning(gluster, 'v0', 'lazy', signal), [/was not set to lazy/])
  t.strictSame(await throttleWarning(gluster, 'v0', undefined, signal), [])
  t.equal(await set(), '')
})

t.test('of a sharded volume whoever moves files is warned', async t => {
  for (const value of ['on', 'enable', 'true', 'yes', '1']) t.match(shardWarning({ options: new Map([['features.shard', value]]) }), [/\.shard/], value)
  for (const value of ['off', 'disable', '0']) t.strictSame(shardWarning({ options: new Map([['features.shard', value]]) }), [], value)
  t.strictSame(shardWarning({ options: new Map() }), [])
})
