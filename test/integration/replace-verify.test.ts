import { execFile } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { Client } from '../../src/client/client.ts'
import type { Task, TaskSpec } from '../../src/client/types.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { Empty } from '../helpers/empty.ts'

const execute = promisify(execFile)

t.setTimeout(300_000)

const config = { domains: [{ id: 'local', path: './images', create: true }] }
const copy = (source: string, target: string, more: object = {}): TaskSpec =>
  ({ kind: 'storage.copyImage', source: { domain: 'local', image: source }, target: { domain: 'local', image: target }, ...more })
const compare = (image: string, against: string): TaskSpec => ({ kind: 'storage.verifyImage', domain: 'local', image, against: { domain: 'local', image: against } })

interface Bench {
  client: Client
  images: string
  /** Resolves when the copy is accepted: without the wait, a busy host answers before. */
  begin: (id: string, spec: TaskSpec) => Promise<void>
  run: (id: string, spec: TaskSpec) => Promise<Task>
}

/** An agent with an empty domain. */
async function makeBench (t: Tap): Promise<Bench> {
  const directory = await makeDirectory(t)
  const { address } = await startAgent(t, directory, config)
  const client = new Client({ url: address })
  t.teardown(async () => { await client.close() })
  return {
    client,
    images: join(directory, 'images'),
    begin: async (id, spec) => {
      const { task } = await client.putTask(id, spec, { waitSeconds: 60 })
      if (task.state !== 'running') throw new Error(`task ${id} is ${task.state}`)
    },
    run: async (id, spec) => {
      await client.putTask(id, spec)
      return await client.waitForTask(id)
    }
  }
}
type Tap = Parameters<typeof makeDirectory>[0]

/** A raw image of some MiB of data that no other seed has. */
async function makeImage (directory: string, name: string, seed: number, mebibytes = 4): Promise<void> {
  await writeFile(join(directory, name), Buffer.alloc(mebibytes * 1024 * 1024, `content of seed ${seed} `))
}

async function isIdentical (directory: string, a: string, b: string): Promise<boolean> {
  return await execute('qemu-img', ['compare', join(directory, a), join(directory, b)]).then(() => true, () => false)
}

t.test('verifyImage tells whether two images are identical, in any formats, and where they first differ', async t => {
  const { run, images } = await makeBench(t)
  await makeImage(images, 'a.raw', 1)
  t.match(await run('copy', copy('a.raw', 'a.qcow2')), { state: 'succeeded' })
  t.match(await run('same', compare('a.qcow2', 'a.raw')), { state: 'succeeded', result: { identical: true } })
  const changed = Buffer.alloc(4 * 1024 * 1024, 'content of seed 1 ')
  changed[3 * 1024 * 1024] = 0
  await writeFile(join(images, 'b.raw'), changed)
  t.match(await run('other', compare('b.raw', 'a.qcow2')), { state: 'succeeded', result: { identical: false, firstDifference: 3 * 1024 * 1024 } })
  await makeImage(images, 'long.raw', 1, 5)
  t.match(await run('longer', compare('long.raw', 'a.raw')), { result: { identical: false, firstDifference: 4 * 1024 * 1024 } })
})

t.test('an image is replaced when the copy is complete, and is good until then', async t => {
  const { client, begin, run, images } = await makeBench(t)
  await makeImage(images, 'old.raw', 1)
  await makeImage(images, 'new.raw', 2, 16)
  await run('first', copy('old.raw', 'target.raw'))
  await t.rejects(client.putTask('refused', copy('new.raw', 'target.raw')), { code: 'target-exists', status: 409 })

  await begin('slow', copy('new.raw', 'target.raw', { onExisting: 'replace', bandwidth: 1024 * 1024 }))
  t.match(await client.imageStatus('local', 'target.raw'), { state: 'ok', copy: { phase: 'copying', taskId: 'slow' } })
  t.ok(await isIdentical(images, 'target.raw', 'old.raw'), 'the old image has its name and its content')
  await client.cancelTask('slow')
  t.match(await client.waitForTask('slow'), { state: 'canceled' })
  t.match(await client.imageStatus('local', 'target.raw'), { state: 'ok', fixes: [{ action: 'mend' }, { action: 'clean' }] })
  t.match(await client.copies('local', { taskId: 'slow' }), [{ state: 'interrupted' }])
  t.ok(await isIdentical(images, 'target.raw', 'old.raw'), 'also after the copy was interrupted')

  await t.rejects(client.putTask('not-so', copy('new.raw', 'target.raw')), { code: 'target-exists' }, 'a caller who does not want it replaced does not continue')
  t.match(await run('again', copy('new.raw', 'target.raw', { onExisting: 'replace' })), { state: 'succeeded', result: { epoch: 2 } })
  t.ok(await isIdentical(images, 'target.raw', 'new.raw'), 'the new image took its place')
  t.match(await run('once-more', copy('new.raw', 'target.raw', { onExisting: 'replace' })), { result: { alreadyDone: true } })
  t.same(await readdir(join(images, '.vdsm-tasks/parts')), [])
})

t.test('cleaning an interrupted replacement leaves the old image alone', async t => {
  const { client, begin, run, images } = await makeBench(t)
  await makeImage(images, 'old.raw', 1)
  await makeImage(images, 'target.raw', 1)
  await makeImage(images, 'new.raw', 2, 16)
  await begin('slow', copy('new.raw', 'target.raw', { onExisting: 'replace', bandwidth: 1024 * 1024 }))
  await client.cancelTask('slow')
  await client.waitForTask('slow')
  t.match(await run('clean', { kind: 'storage.deleteImage', domain: 'local', image: 'target.raw' }), { state: 'succeeded' })
  t.match(await client.imageStatus('local', 'target.raw'), { state: 'ok', fixes: Empty })
  t.ok(await isIdentical(images, 'target.raw', 'old.raw'))
  t.same(await readdir(join(images, '.vdsm-tasks/parts')), [])
  t.same(await readdir(join(images, '.vdsm-tasks/copies')), [])
})

t.test('an image that was written during the copy is not replaced', async t => {
  const { client, begin, run, images } = await makeBench(t)
  await makeImage(images, 'target.raw', 1)
  await makeImage(images, 'new.raw', 2, 16)
  await begin('slow', copy('new.raw', 'target.raw', { onExisting: 'replace', bandwidth: 2 * 1024 * 1024 }))
  await makeImage(images, 'target.raw', 3)
  await client.tuneTask('slow', null)
  t.match(await client.waitForTask('slow'), { state: 'failed', error: { code: 'target-exists' } })
  await makeImage(images, 'written.raw', 3)
  t.ok(await isIdentical(images, 'target.raw', 'written.raw'), 'what was written is there')
  t.match((await client.fixes('local')).map(({ image, state }) => ({ image, state })), [{ image: 'target.raw', state: 'illegal' }])
  t.match(await run('clean', { kind: 'storage.deleteImage', domain: 'local', image: 'target.raw' }), { state: 'succeeded' })
  t.ok(await isIdentical(images, 'target.raw', 'written.raw'), 'cleaning removes the copy only')
})

t.test('a dry run says what would happen, and does nothing', async t => {
  const { client, images, run } = await makeBench(t)
  const agent = await client.agent()
  t.equal(agent.name, 'vdsm-tasks')
  await makeImage(images, 'a.raw', 1)
  const dryRun = async (spec: TaskSpec) => await client.previewTask('dry', spec)
  t.match(await dryRun(copy('a.raw', 'b.qcow2')), { outcome: 'created', plan: { outcome: 'copy', bytesTotal: 4 * 1024 * 1024 } })
  t.same(await readdir(join(images, '.vdsm-tasks/copies')), [])
  t.same(await readdir(join(images, '.vdsm-tasks/parts')), [])
  t.match(await client.listTasks(), { items: Empty }, 'no task was made')
  await t.rejects(dryRun(copy('none.raw', 'b.qcow2')), { code: 'image-not-found' })
  await t.rejects(dryRun(copy('a.raw', 'a.raw')), { code: 'same-image' })
  await run('real', copy('a.raw', 'b.qcow2'))
  t.match(await dryRun(copy('a.raw', 'b.qcow2')), { plan: { outcome: 'already-done' } })
  t.match(await dryRun(copy('b.qcow2', 'a.raw', { onExisting: 'replace' })), { plan: { outcome: 'replace' } })
  await t.rejects(dryRun({ kind: 'storage.createImage', domain: 'local', image: 'a.raw', virtualSize: 512 }), { code: 'image-exists' })
  t.match(await dryRun({ kind: 'storage.deleteImage', domain: 'local', image: 'a.raw' }), { plan: { outcome: 'delete' } })
  t.match(await client.previewTask('real', copy('a.raw', 'b.qcow2')), { outcome: 'stored', task: { state: 'succeeded' } })
})
