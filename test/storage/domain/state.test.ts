import t from 'tap'
import { CreateImage, DeleteImage, MendImage } from '../../../src/api/kinds.ts'
import { Value } from '@sinclair/typebox/value'
import type { CopyRecord } from '../../../src/storage/record.ts'
import { copyState } from '../../../src/storage/layout/copy-state.ts'
import { judge, type Found, type Verdict } from '../../../src/storage/domain/state.ts'
import { recordOf } from '../../helpers/records.ts'

const phases = ['creating', 'copying', 'finishing', 'done', 'deleting'] as const
const files = ['none', 'ours', 'foreign'] as const
type File = typeof files[number]

const identity = { inode: '77', size: 4096, modified: '1', changed: '1' }
const identityOf: Record<File, Found['identity']> = { none: undefined, ours: identity, foreign: { ...identity, inode: '78' } }

function found (of: Partial<Found> & { file: File }): Found {
  const { file, ...rest } = of
  return { domain: 'local', image: 'copy.raw', identity: identityOf[file], record: undefined, leased: false, recordProblem: undefined, abandonedWrite: false, ...rest }
}

const brief = (verdict: Verdict | undefined): string => verdict === undefined ? 'nothing' : [verdict.state, ...verdict.fixes.map(({ action, task }) => `${action} by ${task.kind.replace('storage.', '')}`)].join(', ')

const withoutSource = (phase: CopyRecord['phase']): CopyRecord => {
  const { source: _, ...record } = recordOf({ phase })
  return record
}

const broken = 'interrupted, mend by mendImage, clean by deleteImage'
const clean = 'illegal, clean by deleteImage'

t.test('a copy, over all phases, files and holders', async t => {
  const expected: Record<typeof phases[number], Record<File, [free: string, leased: string]>> = {
    creating: { none: [broken, 'copying'], ours: [clean, 'copying'], foreign: [clean, 'copying'] },
    copying: { none: [broken, 'copying'], ours: [clean, 'copying'], foreign: [clean, 'copying'] },
    finishing: { none: [broken, 'copying'], ours: ['interrupted, mend by mendImage', 'copying'], foreign: [clean, 'copying'] },
    done: { none: ['nothing', 'nothing'], ours: ['ok', 'ok'], foreign: ['ok', 'ok'] },
    deleting: { none: [clean, 'illegal'], ours: [clean, 'illegal'], foreign: [clean, 'illegal'] }
  }
  for (const phase of phases) {
    for (const file of files) {
      const record = recordOf({ phase })
      t.same([brief(judge(found({ file, record }))), brief(judge(found({ file, record, leased: true })))], expected[phase][file], `${phase}, file ${file}`)
    }
  }
})

t.test('a creation, over all phases, files and holders', async t => {
  const redo = 'illegal, mend by createImage, clean by deleteImage'
  const expected: Record<typeof phases[number], Record<File, [free: string, leased: string]>> = {
    creating: { none: [redo, 'copying'], ours: [clean, 'copying'], foreign: [clean, 'copying'] },
    copying: { none: [redo, 'copying'], ours: [clean, 'copying'], foreign: [clean, 'copying'] },
    finishing: { none: [redo, 'copying'], ours: [redo, 'copying'], foreign: [clean, 'copying'] },
    done: { none: ['nothing', 'nothing'], ours: ['ok', 'ok'], foreign: ['ok', 'ok'] },
    deleting: { none: [clean, 'illegal'], ours: [clean, 'illegal'], foreign: [clean, 'illegal'] }
  }
  for (const phase of phases) {
    for (const file of files) {
      const record = withoutSource(phase)
      t.same([brief(judge(found({ file, record }))), brief(judge(found({ file, record, leased: true })))], expected[phase][file], `${phase}, file ${file}`)
    }
  }
})

t.test('without a record, and with one that cannot be read', async t => {
  for (const file of files) {
    for (const leased of [false, true]) {
      for (const abandonedWrite of [false, true]) {
        const expected = file !== 'none' ? 'ok' : abandonedWrite && !leased ? clean : 'nothing'
        t.equal(brief(judge(found({ file, leased, abandonedWrite }))), expected, `file ${file}, leased ${leased}, abandoned write ${abandonedWrite}`)
        const unreadable = judge(found({ file, leased, abandonedWrite, recordProblem: 'it is not JSON' }))
        t.match(unreadable, { detail: 'it is not JSON' })
        const [alone, good] = leased ? ['illegal', 'ok'] : [clean, 'ok, mend by forgetCopy']
        t.equal(brief(unreadable), file === 'none' ? alone : good, 'a good file is not condemned')
        const newer = judge(found({ file, leased, abandonedWrite, recordProblem: 'it is newer', isNewer: true }))
        t.equal(brief(newer), file !== 'none' ? 'ok' : leased ? 'copying' : 'interrupted', 'and nothing is offered that could destroy')
      }
    }
  }
})

t.test('a record speaks of the very file that it names, and of no other one', async t => {
  const target = { ...identity, born: '5' }
  const finishing = recordOf({ phase: 'finishing', target })
  const of = (seen: Found['identity'], record: CopyRecord = finishing) => brief(judge({ ...found({ file: 'none', record }), identity: seen }))
  t.equal(of({ ...target, changed: '9' }), 'interrupted, mend by mendImage', 'a hard link, another owner')
  const written = 'ok, mend by forgetCopy'
  t.equal(of({ ...target, modified: '2', changed: '9' }), written, 'a guest ran on it')
  t.equal(of({ ...target, size: 8192 }), written)
  t.equal(of({ ...target, born: '6' }), clean, 'the inode was used again')
  t.equal(of({ ...target, inode: '78' }), clean)
  t.equal(of({ inode: '77', size: 4096, modified: '2', changed: '9' }), written, 'without times of birth')
  const { source: _, ...creation } = finishing
  t.equal(of({ ...target, modified: '2' }, creation), written, 'a creation, too')
  t.equal(of({ ...identity, size: 512 }, recordOf({ phase: 'finishing' })), written, 'by a record that has only the inode')

  const deleting = recordOf({ phase: 'deleting' })
  t.equal(brief(judge(found({ file: 'ours', record: deleting, isMeant: false }))), written, 'another file than the one that was to go')
  t.equal(brief(judge(found({ file: 'none', record: deleting, isMeant: false }))), clean)
})

t.test('whatever is not ok and that nobody works on has a detail and a way out that the agent would accept', async t => {
  const records = phases.flatMap(phase => [recordOf({ phase, bandwidth: 7 }), { ...withoutSource(phase), virtualSize: 4096 }])
  for (const record of records) {
    for (const file of files) {
      const verdict = judge(found({ file, record }))
      if (verdict === undefined || verdict.state === 'ok') continue
      t.ok(verdict.detail !== undefined && verdict.detail.length > 0)
      t.ok(verdict.fixes.length > 0)
      for (const { task } of verdict.fixes) {
        const schema = task.kind === 'storage.mendImage' ? MendImage : task.kind === 'storage.createImage' ? CreateImage : DeleteImage
        t.ok(Value.Check(schema, task), JSON.stringify(task))
      }
    }
  }
  t.match(judge(found({ file: 'none', record: recordOf({ bandwidth: 7 }) }))?.fixes[0]?.task, { bandwidth: 7 }, 'a limit that was set is kept')
  t.match(judge(found({ file: 'none', record: { ...withoutSource('creating'), format: 'qcow2', clusterSize: 4096 } }))?.fixes[0]?.task, { clusterSize: 4096 }, 'and so is what was asked for')
})

t.test('the list of copies has four words for it', async t => {
  const state = (record: CopyRecord, file: File, leased = false) => copyState(record, judge(found({ file, record, leased })), leased)
  t.equal(state(recordOf(), 'none', true), 'copying')
  t.equal(state(recordOf(), 'none'), 'interrupted')
  t.equal(state(recordOf(), 'foreign'), 'illegal')
  t.equal(state(recordOf({ phase: 'deleting' }), 'none'), 'illegal')
  t.equal(state(recordOf({ phase: 'done' }), 'ours'), 'done')
  t.equal(state(recordOf({ phase: 'done' }), 'none'), 'done', 'also when the image is gone by now: the copy was done')
})
