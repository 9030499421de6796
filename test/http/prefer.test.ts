import t from 'tap'
import { applied, parsePrefer } from '../../src/http/prefer.ts'

t.test('preferences are read as RFC 7240 has them; what is malformed or unknown is ignored', async t => {
  for (const [header, waitSeconds, respondAsync, told] of [
    [undefined, undefined, false, undefined],
    ['', undefined, false, undefined],
    ['wait=5', 5, false, 'wait=5'],
    ['wait=0', 0, false, 'wait=0'],
    ['WAIT = "5"', 5, false, 'wait=5'],
    ['wait=60', 60, false, 'wait=60'],
    ['wait=61', 60, false, 'wait=60'],
    [`wait=${'9'.repeat(400)}`, 60, false, 'wait=60'],
    ['wait=5, wait=7', 5, false, 'wait=5'],
    ['respond-async', undefined, true, 'respond-async'],
    ['Respond-Async; x=y', undefined, true, 'respond-async'],
    ['return=minimal, respond-async,wait=5;x', 5, true, 'respond-async, wait=5'],
    ['wait', undefined, false, undefined],
    ['wait=', undefined, false, undefined],
    ['wait=-1', undefined, false, undefined],
    ['wait=1.5', undefined, false, undefined],
    ['wait=1e3', undefined, false, undefined],
    ['waiting=5', undefined, false, undefined],
    ['respond-async-not', undefined, false, undefined]
  ] as const) {
    const preferences = parsePrefer(header)
    t.same(preferences, { waitSeconds, respondAsync }, String(header))
    t.equal(applied(preferences), told, String(header))
  }
})

t.test('a header that was sent in several lines is one list', async t => {
  t.same(parsePrefer(['respond-async', 'wait=5']), { waitSeconds: 5, respondAsync: true })
})
