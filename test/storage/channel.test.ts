import { EventEmitter } from 'node:events'
import t from 'tap'
import { openChannel } from '../../src/storage/channel.ts'
import { Hostile } from '../helpers/hostile.ts'

const rubbish: unknown[] = [
  null, undefined, 0, 1, '', 'x', true, [], {}, [[]], { t: 'q' }, { t: 's' }, { t: 'x' }, { t: 's', i: '__proto__', r: 1 }, { t: 's', i: 'never asked', e: null },
  { t: 'q', m: 'say' }, { t: 'q', m: 'say', a: 'text' }, { t: 'q', m: 'say', a: { length: 2 ** 40 } }, { t: 'q', m: ['say'], a: [] }, { t: 'q', m: null, a: [] },
  ...['toString', 'constructor', '__proto__', 'hasOwnProperty', '__defineGetter__', '$close', '$functions', 'then', 'missing'].map(m => ({ t: 'q', i: '1', m, a: ['x'] }))
]

t.test('whatever a child sends, its parent lives, and calls nothing that is not there', async t => {
  const peer = Object.assign(new EventEmitter(), { sent: [] as unknown[], send: (message: unknown) => { peer.sent.push(message) } })
  const said: unknown[] = []
  const failures: unknown[] = []
  const note = (error: unknown) => { failures.push(error) }
  process.on('unhandledRejection', note)
  t.teardown(() => { process.off('unhandledRejection', note) })
  const channel = openChannel<{ ask (): Promise<string> }, { say (what: unknown): void }>(peer, { say: what => { said.push(what) } })
  const hostile = new Hostile(Date.now() % 2 ** 31)
  const good = { t: 'q', i: 'a', m: 'say', a: ['hello'] }
  for (const message of [...rubbish, ...Array.from({ length: 500 }, () => hostile.twist(hostile.twist(good))).filter(message => JSON.stringify(message) !== JSON.stringify(good))]) peer.emit('message', message)
  await new Promise(resolve => { setImmediate(resolve) })
  t.same(failures, [])
  t.notOk(said.includes('hello') && peer.sent.length === 0)
  peer.emit('message', { t: 'q', m: 'say', a: ['it works'] })
  await new Promise(resolve => { setImmediate(resolve) })
  t.equal(said.at(-1), 'it works')
  const answer = channel.ask()
  peer.emit('message', { ...peer.sent.at(-1) as { i: string }, t: 's', r: 'yes' })
  t.equal(await answer, 'yes')
  channel.$close()
  t.equal(peer.listenerCount('message'), 0)
})
