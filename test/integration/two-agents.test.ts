import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent, type AgentProcess } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { compare, identical, makeDisk, MiB, sha256 } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

const domain = await temporaryDirectory(t)
const at = (name: string) => join(domain, name)
const size = 24 * MiB
const options = { domains: [{ id: 'local', path: domain, create: true }], copy: { windowSeconds: 0.5 } }
const start = async (hostId: string): Promise<AgentProcess> => await startAgent(t, { ...options, hostId })
let first = await start('first')
const second = await start('second')
await makeDisk(at('source.raw'), size)

for (const target of ['copy.raw', 'copy.qcow2']) {
  t.test(`what one agent copies to ${target}, the other sees, leaves alone, and continues when the first is dead`, async t => {
    await first.accept('copy', copySpec('source.raw', target, { bandwidth: stalled }))
    const seen = await second.untilDone('local', target, MiB)
    t.match(seen, { state: 'copying', copy: { host: { id: 'first' }, taskId: 'copy', epoch: 1, source: { domain: 'local', image: 'source.raw' } }, fixes: Empty })
    t.match(await second.copies('local'), [{ image: target, state: 'copying' }])
    t.same(await second.fixes('local'), [])
    for (const [id, spec] of [
      ['mend', mendSpec(target)],
      ['same', copySpec('source.raw', target)],
      ['delete', deleteSpec(target)],
      ['create', { kind: 'storage.createImage', domain: 'local', image: target, virtualSize: 512 }]
    ] as const) {
      const { status, body, headers } = await second.refused(id, spec)
      t.equal(status, 409, id)
      t.equal(body.code, 'resource-busy', id)
      if (id === 'mend') t.match(body, { detail: /host first, task copy/, host: { id: 'first' } })
      t.match(headers['retry-after'], /^\d+$/)
    }
    t.match(await second.refused('delete-source', deleteSpec('source.raw')), { status: 409, body: { code: 'resource-busy' } }, 'a source is kept while it is read')
    t.match(await second.done('beside', copySpec('source.raw', `beside-${target}`)), { state: 'succeeded' }, 'but others may read it, too')

    await first.kill()
    // what the second agent tells may be a second old
    const { copy } = await until(async () => {
      const { body } = await second.image('local', target)
      return body.state === 'interrupted' && body
    })
    const before = copy?.bytesDone ?? 0
    t.ok(before >= MiB)
    t.match(await second.done('take-over', mendSpec(target)), { state: 'succeeded', result: { bytesCopied: size - before, epoch: 2 } })
    t.match((await second.image('local', target)).body, { state: 'ok', copy: { host: { id: 'second' }, taskId: 'take-over', phase: 'done' } })
    t.equal(await compare({ path: at('source.raw'), format: 'raw' }, { path: at(target), format: target.endsWith('raw') ? 'raw' : 'qcow2' }), identical)
    first = await start('first')
    t.match(await first.refused('mend', mendSpec(target)), { status: 409, body: { code: 'already-complete' } })
    t.match(await first.done('confirm', copySpec('source.raw', target)), { state: 'succeeded', result: { alreadyDone: true } })
    t.same((await first.copies('local')).filter(({ image }) => image === target), (await second.copies('local')).filter(({ image }) => image === target), 'both tell the same')
    await second.done(`clean-${target}`, deleteSpec(`beside-${target}`))
    // the ids are used again for the next format
    for (const id of ['mend', 'same', 'delete', 'create', 'delete-source', 'beside', 'take-over']) {
      const { headers } = await second.request('GET', `/tasks/${id}`)
      await second.request('DELETE', `/tasks/${id}`, { headers: { 'if-match': String(headers['etag']) } })
    }
  })
}

t.test('of two agents that are sent the same copy at once, one does it, and the other says who', async t => {
  for (let round = 0; round < 2; round++) {
    const target = `race-${round}.raw`
    const replies = await Promise.all([first, second].map(async agent => await agent.refused(target, copySpec('source.raw', target, { bandwidth: stalled }))))
    t.same(replies.map(({ status }) => status).sort(), [202, 409])
    const loser = replies.find(({ status }) => status === 409)
    t.equal(loser?.body.code, 'resource-busy')
    const winner = replies[0]?.status === 202 ? first : second
    await winner.request('PATCH', `/tasks/${target}`, { body: { bandwidth: null } })
    t.match(await winner.finished(target), { state: 'succeeded', result: { epoch: 1 } })
    t.equal(await sha256(at(target)), await sha256(at('source.raw')))
  }
})

t.test('of two agents that mend the same image at once, one does it', async t => {
  await first.accept('torn', copySpec('source.raw', 'torn.raw', { bandwidth: stalled }))
  await second.untilDone('local', 'torn.raw', MiB)
  await first.kill()
  first = await start('first')
  const replies = await Promise.all([first, second].map(async agent => await agent.refused('mend-torn', mendSpec('torn.raw'))))
  // the later one finds it taken, or already complete
  t.equal(replies.filter(({ status }) => status === 202).length, 1)
  t.match(replies.find(({ status }) => status !== 202)?.body.code, /^(resource-busy|already-complete)$/)
  const winner = replies[0]?.status === 202 ? first : second
  t.match(await winner.finished('mend-torn'), { state: 'succeeded', result: { epoch: 2 } })
  t.equal(await sha256(at('torn.raw')), await sha256(at('source.raw')))
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same(await second.fixes('local'), [])
})
