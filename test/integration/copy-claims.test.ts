import { join } from 'node:path'
import t from 'tap'
import { copySpec, stalled, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, MiB, sha256 } from '../helpers/images.ts'

t.setTimeout(120_000)

const domain = await temporaryDirectory(t)
const agent = await startAgent(t, { domains: [{ id: 'local', path: domain, create: true }] })
await makeDisk(join(domain, 'source.raw'), 8 * MiB)

t.test('fifty PUTs of one id at once are one copy; one with another body is a conflict', async t => {
  const spec = copySpec('source.raw', 'copy.raw', { bandwidth: stalled })
  const replies = await Promise.all(Array.from({ length: 50 }, async (_, index) => {
    if (index === 25) return await agent.refused('claim', copySpec('source.raw', 'other.raw'))
    return await agent.refused('claim', spec)
  }))
  const others = replies.filter(({ status }) => status !== 202)
  t.equal(others.length, 1)
  t.match(others[0], { status: 409, body: { code: 'task-id-conflict', task: { id: 'claim' } } })
  const accepted = replies.filter(({ status }) => status === 202)
  t.equal(new Set(accepted.map(({ body }) => body['runId'])).size, 1)
  t.equal(accepted.filter(({ headers }) => headers['idempotent-replayed'] === 'true').length, 48)

  t.equal(agent.children('storage/copy/main.js').length, 1, 'one worker')
  t.same((await agent.copies('local')).map(({ image, copy }) => [image, copy.epoch]), [['copy.raw', 1]])
  await agent.request('PATCH', '/tasks/claim', { body: { bandwidth: null } })
  t.match(await agent.finished('claim'), { state: 'succeeded', result: { epoch: 1 } })
  t.equal(await sha256(join(domain, 'copy.raw')), await sha256(join(domain, 'source.raw')))
  t.match(await agent.put('claim', spec), { status: 200, headers: { 'idempotent-replayed': 'true' }, body: { state: 'succeeded' } })
})

t.test('fifty ids for one target are one copy; the others are told who has it', async t => {
  const replies = await Promise.all(Array.from({ length: 50 }, async (_, index) => await agent.refused(`wish-${index}`, copySpec('source.raw', 'wanted.raw', { bandwidth: stalled }))))
  const [winner, ...more] = replies.filter(({ status }) => status === 202)
  t.equal(more.length, 0)
  const id = String(winner?.body['id'])
  for (const { status, body } of replies) if (status !== 202) t.match([status, body], [409, { code: 'resource-busy', holder: id }])
  await agent.request('DELETE', `/tasks/${id}`)
  t.match(await agent.finished(id), { state: 'canceled' })
})

t.test('the places of copies are limited, and those who wait can be canceled', async t => {
  for (let index = 0; index < 6; index++) await agent.put(`place-${index}`, copySpec('source.raw', `place-${index}.raw`, { bandwidth: stalled }), { prefer: 'wait=2' })
  const states = async () => await Promise.all([0, 1, 2, 3, 4, 5].map(async index => (await agent.task(`place-${index}`)).state))
  t.same((await states()).slice(4), ['pending', 'pending'])
  t.match(await agent.task('place-5'), { progress: { phase: 'queued', queuePosition: 2 } })
  await agent.request('DELETE', '/tasks/place-4')
  t.match(await agent.task('place-4'), { state: 'canceled' })
  t.equal((await agent.image('local', 'place-4.raw')).status, 404, 'it left nothing')
  await agent.request('DELETE', '/tasks/place-0')
  t.match(await agent.finished('place-0'), { state: 'canceled' })
  for (const index of [1, 2, 3, 5]) {
    await agent.request('PATCH', `/tasks/place-${index}`, { body: { bandwidth: null } })
    t.match(await agent.finished(`place-${index}`), { state: 'succeeded' })
  }
})
