import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t, { type Test } from 'tap'
import { Feed } from '../../src/events/feed.ts'
import { lookForUnanswered } from '../../src/system/tcp.ts'
import { serveFeed } from '../helpers/feed-server.ts'
import { sh } from '../helpers/images.ts'
import { unlessRoot } from '../helpers/mount-space.ts'
import { until } from '../helpers/processes.ts'
import { Subscriber } from '../helpers/subscriber.ts'

/** A host of its own, as a network name space at the end of a cable; both go when its holder ends. */
async function otherHost (t: Test, address: string): Promise<{ run: (command: string) => ReturnType<typeof spawn>, cut: () => Promise<void> }> {
  const holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '--net', 'sh', '-c', 'echo there; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] })
  const gone = once(holder, 'exit')
  t.teardown(async () => { holder.kill('SIGKILL'); await gone })
  await once(holder.stdout, 'data')
  const pid = String(holder.pid)
  const [here, there] = [`vt${pid}a`, `vt${pid}b`]
  await sh('ip', 'link', 'add', here, 'type', 'veth', 'peer', 'name', there, 'netns', pid)
  await sh('ip', 'address', 'add', `${address}.1/30`, 'dev', here)
  await sh('ip', 'link', 'set', here, 'up')
  const enter = ['--net=/proc/' + pid + '/ns/net']
  await sh('nsenter', ...enter, 'ip', 'address', 'add', `${address}.2/30`, 'dev', there)
  await sh('nsenter', ...enter, 'ip', 'link', 'set', there, 'up')
  return {
    run: command => {
      const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'nsenter', ...enter, 'sh', '-c', command], { stdio: ['ignore', 'pipe', 'ignore'] })
      const ended = once(child, 'exit')
      t.teardown(async () => { child.kill('SIGKILL'); await ended })
      return child
    },
    // its address is nobody's from now on: what is sent there vanishes, and nothing comes back
    cut: async () => { await sh('nsenter', ...enter, 'ip', 'address', 'flush', 'dev', there) }
  }
}

t.test('a peer that has vanished without a word is found by the heartbeat and cut off, and nobody else is', { skip: unlessRoot }, async t => {
  const warnings: object[] = []
  const feed = new Feed({ instance: 'here', snapshot: () => [], heartbeatMs: 200, drainMs: 2000, lookForUnanswered, log: { warn: details => { warnings.push(details) } } })
  const port = await serveFeed(t, feed, '0.0.0.0')
  const network = `10.213.${process.pid % 200 + 1}`
  const host = await otherHost(t, network)
  const near = new Subscriber({ host: '127.0.0.1', port }, '/')
  await near.event('synced')
  t.teardown(() => { near.close() })
  const far = host.run(`exec curl -sN http://${network}.1:${port}/`)
  let text = ''
  far.stdout?.on('data', part => { text += String(part) })
  await until(() => text.includes('event: synced') && near.comments > 2)
  await host.cut()
  const cutAt = performance.now()
  await until(() => feed.subscribers === 1)
  t.ok(performance.now() - cutAt > 1800, 'it had its time')
  t.same(feed.dropped, { backlog: 0, stalled: 1 })
  t.equal(warnings.length, 1, 'a line in the log')
  t.equal(near.response?.complete, false, 'who answers stays')
})

t.test('connections whose peers answer leave nothing unanswered', async t => {
  const feed = new Feed({ instance: 'here', snapshot: () => [], heartbeatMs: 20, drainMs: 40, lookForUnanswered })
  const port = await serveFeed(t, feed, '0.0.0.0')
  const subscriber = new Subscriber({ host: '127.0.0.1', port }, '/')
  await until(() => subscriber.comments > 10)
  t.equal(feed.subscribers, 1)
  subscriber.close()
})
