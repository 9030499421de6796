import t from 'tap'
import type { LockStatus } from '../../../src/api/domain.ts'
import { formatMark, parseMark } from '../../../src/storage/domain/host-file.ts'
import {
  beatMs, deadMs, due, isReadDue, isUnclear, judgePeers, newPeer, seen, silentMs, tried, watchMs,
  type Due, type HostMark, type Peer, type Self
} from '../../../src/storage/domain/peers.ts'

const self: Self = { hostId: 'me', instance: 'mine', domain: 'd' }
const process = { boot: 'b', namespace: 'n', pid: 1, started: '1' }
const markOf = (beat: number, held = beat, of: Partial<HostMark> = {}): HostMark => ({
  hostId: 'other', instance: 'theirs', domain: 'd', process, beat, held, ...of
})

/** What happens to one host file: each step takes place so many milliseconds after the start. */
type Step =
  | { at: number, read: HostMark | undefined }
  | { at: number, lock: 'taken' | 'refused' }

function after (steps: readonly Step[]): Peer {
  return steps.reduce((peer, step) => 'lock' in step ? tried(peer, step.at, step.lock === 'taken') : seen(peer, step.at, step.read), newPeer('f', 0))
}

const read = (at: number, beat: number, held = beat, of: Partial<HostMark> = {}): Step => ({ at, read: markOf(beat, held, of) })
const taken = (at: number): Step => ({ at, lock: 'taken' })
const refused = (at: number): Step => ({ at, lock: 'refused' })
/** A file without a heartbeat is read every two seconds. */
const silence = (from: number, to: number, beat: number): Step[] =>
  Array.from({ length: Math.floor((to - from) / beatMs) + 1 }, (_, n) => read(from + n * beatMs, beat))

const cases: Array<[what: string, steps: Step[], state: LockStatus['state'], next: Due]> = [
  ['a file that is there, not looked at yet', [read(0, 1)], 'checking', 'try'],
  ['its lock is refused: at once it is known that locks work', [read(0, 1), refused(1)], 'proven', undefined],
  ['its lock could be taken: it may be dead', [read(0, 1), taken(1), read(2, 1)], 'checking', undefined],
  ['a beat that was prepared before', [read(0, 1), taken(1), read(2, 1), read(1000, 2)], 'checking', 'confirm'],
  ['one more, which a cache may have been late with', [read(0, 1), taken(1), read(2, 1), read(1000, 2), taken(1001), read(3000, 3), taken(3001)], 'checking', undefined],
  ['it goes on with its lock while ours holds', [read(0, 1), taken(1), read(2, 1), read(1000, 2), taken(1001), read(3000, 3), taken(3001), read(5000, 4), taken(5001)], 'broken', undefined],
  ['its beats were read, but not that our lock still holds', [read(0, 1), taken(1), read(2, 1), read(5000, 4)], 'checking', 'confirm'],
  ['our lock was lost in between, and it has its own again', [read(0, 1), taken(1), read(2, 1), read(5000, 4), refused(5001)], 'proven', undefined],
  ['it beats without having made sure of its lock: that proves nothing', [read(0, 1), taken(1), read(2, 1), read(2000, 2, 1), read(4000, 3, 1), read(6000, 9, 1), taken(6001)], 'checking', undefined],
  ['it was cut off, lost its lock, and waits for it: no beat', [read(0, 5), refused(1), read(30_000, 20), taken(30_001), ...silence(30_002, 30_002 + silentMs, 20)], 'alone', undefined],
  ['a frozen host keeps its lock', [read(0, 5), refused(1), read(30_000, 5), ...silence(32_000, 60_000, 5), refused(60_001)], 'proven', undefined],
  ['a dead host', [read(0, 5), taken(1), ...silence(2, silentMs + 2, 5)], 'alone', undefined],
  ['a dead host, long after', [read(0, 5), taken(1), ...silence(2, deadMs + 2, 5)], 'alone', 'remove'],
  ['it was silent, and beats again: not dead', [read(0, 5), taken(1), ...silence(2, silentMs + 2, 5), read(20_000, 6)], 'checking', 'confirm'],
  ['our own pause is not its silence', [read(0, 5), taken(1), read(2, 5), read(600_000, 5)], 'checking', undefined],
  ['what cannot be read is nobody', [{ at: 0, read: undefined }], 'alone', undefined],
  ['what cannot be read for long was left by a crash', [{ at: 0, read: undefined }, { at: deadMs, read: undefined }], 'alone', 'try'],
  ['and is removed', [{ at: 0, read: undefined }, { at: deadMs, read: undefined }, taken(deadMs)], 'alone', 'remove'],
  ['a file that lasted, of which half a write was read', [read(0, 1), refused(1), { at: 2000, read: undefined }], 'proven', undefined],
  ['the directory under another id, alive', [read(0, 1, 1, { domain: 'e' }), refused(1), read(2000, 2, 2, { domain: 'e' })], 'conflict', undefined],
  ['the directory was under another id', [read(0, 1, 1, { domain: 'e' }), refused(1), read(2000, 1, 1, { domain: 'e' })], 'proven', undefined],
  ['broken, and its owner is silent: feared for a while', [read(0, 1), taken(1), read(2, 1), read(5000, 4), taken(5001), ...silence(6000, 6000 + silentMs, 4)], 'broken', undefined],
  ['broken, tried again after a while', [read(0, 1), taken(1), read(2, 1), read(5000, 4), taken(5001), read(35_002, 9)], 'broken', 'retry'],
  ['broken, and then mounted as it should be', [read(0, 1), taken(1), read(2, 1), read(5000, 4), taken(5001), refused(40_000)], 'proven', undefined]
]

t.test('what host files say of locks', async t => {
  for (const [what, steps, state, next] of cases) {
    const peer = after(steps)
    const now = steps.at(-1)?.at ?? 0
    t.equal(judgePeers([peer], self).state, state, `${what}: ${state}`)
    t.equal(due(peer, now, false), next, `${what}: ${next ?? 'nothing'} is due`)
    t.equal(isUnclear(peer), state === 'checking', what)
  }
})

t.test('the file of a process that has ended is removed as soon as its lock is free', async t => {
  t.equal(due(after([read(0, 1)]), 0, true), 'try')
  t.equal(due(after([read(0, 1), taken(1)]), 1, true), 'remove')
  t.equal(due(after([read(0, 1), refused(1)]), 2, true), undefined, 'who still has it is on its way out')
  t.equal(due(after([read(0, 1), refused(1)]), silentMs + 1, true), 'try')
})

t.test('files are read often only while something depends on it', async t => {
  const everyMs = (steps: readonly Step[]) => {
    const peer = after(steps)
    for (let ms = 0; ms < 60_000; ms += watchMs / 2) if (isReadDue(peer, self, peer.readAt + ms)) return ms + watchMs / 2
    return Infinity
  }
  t.equal(everyMs([read(0, 1), taken(1)]), watchMs)
  t.equal(everyMs([read(0, 1), refused(1), read(2000, 2)]), 30_000)
  t.equal(everyMs([read(0, 1), refused(1), read(2000, 1)]), beatMs, 'it may have died')
  t.equal(everyMs([read(0, 1, 1, { hostId: 'me' }), refused(1)]), beatMs, 'is it alive?')
})

t.test('everybody else is told apart', async t => {
  const alive = (of: Partial<HostMark>) => after([read(0, 1, 1, of), refused(1), read(2000, 2, 2, of)])
  t.strictSame(judgePeers([], self), { state: 'alone', agents: 0 })
  t.strictSame(judgePeers([alive({}), alive({ instance: 'third' }), alive({ instance: 'third' })], self), { state: 'proven', agents: 2 })
  const codes = (...peers: Peer[]) => judgePeers(peers, self).problems?.map(({ code }) => code)
  t.strictSame(codes(alive({ hostId: 'me' })), ['host-id-duplicate'])
  t.strictSame(codes(alive({ hostId: 'me', instance: 'mine' })), undefined, 'a file that this agent has left behind')
  t.strictSame(codes(after([read(0, 1, 1, { hostId: 'me' }), refused(1)])), undefined, 'a predecessor that is still dying')
  t.strictSame(codes(alive({ hostId: 'me', domain: 'e' })), ['domain-id-conflict'])
  t.strictSame(codes(alive({ hostId: 'me', instance: 'mine', domain: 'e' })), ['domain-id-conflict'], 'by this agent itself')
  t.equal(judgePeers([alive({ hostId: 'me' })], self).state, 'proven', 'two of one name refuse nothing')
  const broken = after([read(0, 1), taken(1), read(2, 1), read(5000, 4), taken(5001)])
  t.equal(judgePeers([alive({}), broken], self).state, 'broken', 'one is enough')
  t.match(judgePeers([broken], self).problems, [{ code: 'locks-broken', detail: /host other \(instance theirs\)/ }])
})

t.test('a mark that was written is read, and nothing else is', async t => {
  const mark = markOf(12, 7, { hostId: 'ä"\\'.repeat(80), domain: 'x'.repeat(63) })
  const text = formatMark(mark)
  t.strictSame(parseMark(text), mark)
  t.equal(Buffer.byteLength(text), Buffer.byteLength(formatMark(markOf(1))), 'always as long, so that nothing of an old one is left')
  t.equal(parseMark(text.replace('"beat":12', '"beat":13')), undefined, 'half of one beat and half of another')
  for (const bad of ['', 'x', '[]', 'null', '{}', text.replace('"version":1', '"version":2'), text.replace('"pid":1', '"pid":0'), text.slice(0, 100)]) {
    t.equal(parseMark(bad), undefined, bad.slice(0, 20))
  }
})
