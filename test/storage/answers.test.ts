import t from 'tap'
import { problemOf } from '../../src/errors.ts'
import { answers, type Answer } from '../../src/storage/answers.ts'
import { Child } from '../../src/storage/child.ts'
import type { Outcome } from '../../src/storage/outcome.ts'

const time = '2026-01-01T00:00:00.000Z'
const copy = { copyId: 'c', phase: 'copying', host: { id: 'node1' }, bytesTotal: 10, bytesDone: 5, createdAt: time, checkpointAt: time, epoch: 1 }
const fix = { action: 'mend', description: 'x', task: { kind: 'storage.mendImage', domain: 'local', image: 'a.raw' } }
const result = { domain: 'local', image: 'a.raw', bytesTotal: 1, bytesCopied: 1, bytesMoved: 1, epoch: 1 }

/** An answer to each call, as a child gives it that is in order. */
const right: Record<keyof typeof answers, unknown> = {
  prepared: { sampleMade: true },
  description: { bytesTotal: 10, bytesFree: 5, local: true, warnings: ['x'], leases: { kind: 'sanlock', state: 'ready', hostId: 1 } },
  images: [{ image: 'a.raw', format: 'raw', fileSize: 1, actualSize: 0, modifiedAt: time }],
  image: { domain: 'local', image: 'a.raw', state: 'copying', format: 'raw', virtualSize: 1, actualSize: 1, copy, fixes: [fix], observedAt: time },
  copies: [{ domain: 'local', image: 'a.raw', state: 'copying', copy }],
  fixes: [{ image: 'a.raw', state: 'illegal', detail: 'x', fixes: [fix] }],
  neededSources: [null, { domain: 'd', virtualSize: 1, files: [{ image: 'a.raw', format: 'raw', identity: { inode: '1', size: 1, modified: '1', changed: '1' } }] }],
  sourceStates: [{ state: 'same' }, { state: 'gone', what: 'a.raw' }],
  swept: { parts: ['x'], records: 1, leases: 1 },
  bytes: 1,
  creatable: { bytesFree: 1, bytesNeeded: 1, bytesReserved: 1 },
  created: { domain: 'local', image: 'a.raw' },
  deleted: { domain: 'local', image: 'a.raw', bytesFreed: 1 },
  forgotten: { domain: 'local', image: 'a.raw', forgotten: true },
  copied: { result },
  verified: { result: { identical: true } },
  preview: { outcome: 'copy', bytesTotal: 1 },
  domains: ['00000000-0000-4000-8000-000000000000']
}

const failure = { code: 'no-space', detail: 'full', members: { bytesFree: 1, differs: ['x'], host: { id: 'node1' } }, changed: true }
const deep = JSON.parse(`${'['.repeat(10_000)}${']'.repeat(10_000)}`) as unknown

/** What a child that is not in order may answer to any call. */
const wrong: unknown[] = [
  null, undefined, 0, 'x', [], {}, { ok: deep }, { error: deep }, { ok: null }, { error: null }, { ok: 'constructor' }, { error: {} }, { ok: right.image, error: failure },
  { ok: [{ image: '../../etc/passwd', fileSize: 1, actualSize: 1, modifiedAt: time }] }, { ok: ['../../outside'] }, { ok: { ...right.image as object, more: deep } },
  { ok: { ...right.image as object, fixes: [{ ...fix, task: { kind: 'storage.deleteImage', domain: 'local', image: '../x' } }] } },
  { ok: { result: { ...result, image: 'a\u001b[2J.raw' } } }, { ok: { result: { ...result, bytesTotal: 'NaN' } } },
  { error: { ...failure, code: 'toString' } }, { error: { ...failure, detail: { toString: 'x' } } }, { error: { ...failure, members: { x: deep } } }, { error: { ...failure, members: { x: { y: {} } } } },
  ...['type', 'title', 'status', 'code', 'detail', 'task', 'retryAfter', '__proto__'].map(name => ({ error: { ...failure, members: JSON.parse(`{"${name}":"x"}`) as object } }))
]

const child = new Child<{ echo (outcome: unknown): Promise<Outcome<unknown>> }, object>(new URL('../helpers/echo-child', import.meta.url), {})
t.teardown(async () => {
  child.end()
  await child.gone
})
const ask = async (answer: Answer<unknown>, outcome: unknown) => await child.call('A call', answer, async remote => await remote.echo(outcome), 10_000)

t.test('what a child answers is taken when it is as documented, and else it is an error of ours, which tells the caller nothing', async t => {
  for (const [name, answer] of Object.entries(answers)) {
    t.same(await ask(answer, { ok: right[name as keyof typeof answers] }), right[name as keyof typeof answers], name)
    await t.rejects(ask(answer, { error: failure }), { code: 'no-space', message: 'full', members: failure.members, changed: true })
    for (const [index, outcome] of wrong.entries()) {
      const { code, message } = await ask(answer, outcome).then(() => ({ code: 'taken', message: '' }), error => error as { code: string, message: string })
      if (code !== 'internal') t.fail(`${name} ${index}: ${code} ${message}`)
    }
  }
  t.ok(child.alive)
})

t.test('members add to a problem and change nothing in it', async t => {
  const error = await ask(answers.swept, { error: failure }).catch((error: unknown) => error)
  t.match(problemOf(Object.assign(error as Error, { members: { status: 200, code: 'x', host: 'node1' } })), { status: 507, code: 'no-space', host: 'node1' })
})
