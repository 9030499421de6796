import t from 'tap'
import { isUnavailable, refusalOf } from '../../src/gluster/refusal.ts'
import { answerOf, captures, outputOf } from './fixture.ts'

const codes: Record<string, string> = {
  'concurrent-a': 'gluster-busy',
  'concurrent-b': 'gluster-busy',
  'rebal-start-nosuchvol': 'volume-not-found',
  'rebal-status-nosuchvol': 'volume-not-found',
  'info-nosuchvol': 'volume-not-found',
  'detail-nosuchvol': 'volume-not-found',
  'set-nosuchvol': 'volume-not-found',
  'rebal-start-volume-stopped': 'volume-not-started',
  'rebal-start-onebrick': 'not-distributed',
  'e1-rebal': 'not-distributed',
  'a1-rebal': 'not-distributed',
  'rebal-start-again': 'operation-conflict',
  'rebal-start-again-node2': 'operation-conflict',
  again3: 'operation-conflict',
  'fixl-while-running': 'operation-conflict',
  'add-brick-while-running': 'operation-conflict',
  'rb-while-running': 'operation-conflict',
  'stopped-rb-start': 'operation-conflict',
  'rb-rebal-start-conflict': 'remove-brick-uncommitted',
  'rb-rebal-start-uncommitted': 'remove-brick-uncommitted',
  'rb3-rebal-start': 'remove-brick-uncommitted',
  'rb3-start-again': 'remove-brick-uncommitted',
  'rb3-start-other': 'remove-brick-uncommitted',
  'rb3-commit-running': 'remove-brick-unfinished',
  'rebal-status-never': 'operation-not-running',
  'rebal-status-stopped': 'operation-not-running',
  'rebal-stop-never': 'operation-not-running',
  'rb-rebal-status-conflict': 'operation-not-running',
  'rb-status-after-commit': 'operation-not-running',
  'rb-stop-never': 'operation-not-running',
  'never3-rb-status': 'operation-not-running',
  'rb-commit-never': 'operation-not-running',
  'rb3-status-stopped': 'operation-not-running',
  'rb3-commit-stopped': 'operation-not-running',
  'rb3-rebal-stop': 'operation-not-running',
  'back3-status-n1': 'gluster-refused',
  'rb-status-wrongbrick': 'brick-not-found',
  'rb-start-wrongbrick': 'brick-not-found',
  'rb3-commit-again': 'brick-not-found',
  'rb3-status-subset': 'brick-not-found',
  'rb3-commit-down': 'gluster-refused',
  'rb-replica-partial': 'gluster-refused',
  'rb-replica-start': 'gluster-refused',
  'a1-rb': 'gluster-refused'
}

t.test('every refusal among the captures has the code that callers can decide by, and keeps the words', async t => {
  const refused: string[] = []
  for (const name of captures.filter(capture => outputOf(capture).startsWith('<?xml'))) {
    const answer = answerOf(name)
    if (answer.ok) continue
    refused.push(name)
    const { code, message, changed } = refusalOf(answer, 'gluster volume x', true)
    t.equal(code, codes[name] ?? 'not in the table', `${name}: ${answer.words}`)
    t.match(message, answer.words.split('\n')[0] ?? '', name)
    t.equal(changed, name === 'back3-status-n1', `${name} has ${changed ? '' : 'not '}changed anything`)
  }
  t.same(refused.sort(), Object.keys(codes).sort(), 'and every code of the table was seen')
})

t.test('texts that were not captured', async t => {
  for (const [words, code] of [
    ['Another transaction could be in progress. Please try again after some time.', 'gluster-busy'],
    ['Locking failed on node2. Please check log file for details.', 'gluster-busy'],
    ['Volume v0 is not started', 'volume-not-started'],
    ['Error : Request timed out', 'gluster-unresponsive'],
    ['Something new', 'gluster-refused'],
    ['', 'gluster-refused']
  ] as const) t.equal(refusalOf({ words, errno: 30800 }, 'gluster', false).code, code, words)
  t.ok(refusalOf({ words: 'Commit failed on node2. Please check log file for details.', errno: 30800 }, 'gluster', true).changed)
  t.notOk(refusalOf({ words: 'Commit failed on node2. Please check log file for details.', errno: 30800 }, 'gluster', false).changed)
})

t.test('a glusterd that is down says so in plain text', async t => {
  t.ok(isUnavailable(outputOf('glusterd-down')))
  t.ok(isUnavailable(outputOf('down3-n2')))
  t.notOk(isUnavailable(outputOf('tasks-empty')))
})
