import t from 'tap'
import { parseLeader, parseLockspaces, resultIn } from '../../src/sanlock/answers.ts'

// What sanlock 3.8.5 prints.

t.test('the result is told from the rest', async t => {
  for (const [text, result] of [
    ['acquire pid 5126\nacquire done 0\n', 0],
    ['acquire pid 5490\nacquire done -243\n', -243],
    ['register\nregister done -2\n', -2],
    ['gets error -2\n', -2],
    ['inquire pid 1\ninquire done 0 res_count 1\n"a:b:/a done -17/c.lease:0:1"\n', 0],
    ['s a:1:/ids done -3:0 ADD \nhosts error -2\n', undefined],
    ['', undefined]
  ] as const) t.equal(resultIn(text), result, text)
})

t.test('a lease says who has it', async t => {
  const text = 'read_leader done 0\nmagic 0x6152010\nversion 0x60004\nowner_id 2\nowner_generation 17\nlver 4\nspace_name a\ntimestamp 38684\nwrite_timestamp 1\n'
  t.same(parseLeader(text), { ownerId: 2, ownerGeneration: 17, timestamp: 38684 })
  t.equal(parseLeader('read_leader done -223\n'), undefined)
})

t.test('lockspaces have hosts, and paths with whatever is in them', async t => {
  const found = parseLockspaces([
    's one:1:/rhev/server:_export: x/ids:0 ',
    'h 1 gen 1 timestamp 38734 LIVE',
    'h 2 gen 3 timestamp 38732 DEAD',
    's two:7:/ids:0 ADD ',
    'hosts error -2',
    's three:250:/ids:1048576 REM ',
    ''
  ].join('\n'))
  t.same(found.map(({ hosts, ...rest }) => ({ ...rest, hosts: [...hosts] })), [
    { name: 'one', hostId: 1, hosts: [[1, { generation: 1, state: 'LIVE' }], [2, { generation: 3, state: 'DEAD' }]] },
    { name: 'two', hostId: 7, changing: 'joining', hosts: [] },
    { name: 'three', hostId: 250, changing: 'leaving', hosts: [] }
  ])
})
