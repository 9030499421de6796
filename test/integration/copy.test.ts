import { readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { copySpec, deleteSpec, mendSpec, stalled, startAgent } from '../helpers/agent.ts'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { Empty } from '../helpers/empty.ts'
import { compare, identical, makeDisk, makeOld, MiB, sh, sha256, type FormattedFile } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'

t.setTimeout(300_000)

const domain = await temporaryDirectory(t)
const at = (name: string) => join(domain, name)
const file = (name: string): FormattedFile => ({ path: at(name), format: name.endsWith('.qcow2') ? 'qcow2' : 'raw' })
const agent = await startAgent(t, { domains: [{ id: 'local', path: domain, create: true }], copy: { windowSeconds: 0.5 } })

/** A disk in both formats. The qcow2 has an area of zeros that is written out, too. */
async function makeSources (name: string, size: number): Promise<void> {
  await makeDisk(at(`${name}.raw`), size)
  await sh('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', at(`${name}.raw`), at(`${name}.qcow2`))
  if (size > 8 * MiB) await sh('qemu-io', '-f', 'qcow2', '-c', `write -P 0 ${6 * MiB} 1M`, '-c', `write -z ${7 * MiB} 64k`, at(`${name}.qcow2`))
  await makeOld(at(`${name}.qcow2`))
}

t.test('all four combinations of formats, of any size, are identical in the end', async t => {
  const sizes = { whole: 40 * MiB, odd: 9 * MiB + 1234, small: 777, empty: 0 }
  for (const [name, size] of Object.entries(sizes)) {
    await makeSources(name, size)
    for (const from of ['raw', 'qcow2']) {
      for (const to of ['raw', 'qcow2']) {
        const source = `${name}.${from}`
        const target = `${name}-from-${from}.${to}`
        const { state, result, error } = await agent.done(target, copySpec(source, target))
        t.equal(state, 'succeeded', `${target} ${error?.detail ?? ''}`)
        t.equal(await compare(file(source), file(target)), identical, target)
        const { 'virtual-size': virtualSize } = JSON.parse(await sh('qemu-img', 'info', '--output=json', '-f', from, at(source))) as Record<string, number>
        const exact = from === 'raw' ? size : virtualSize ?? 0
        if (to === 'raw') {
          t.equal((await stat(at(target))).size, exact, `${target} has exactly the size of its source`)
          if (from === 'raw') t.equal(await sha256(at(target)), await sha256(at(source)), `${target} is the same byte for byte`)
        } else {
          await sh('qemu-img', 'check', '-f', 'qcow2', at(target))
        }
        const bytesTotal = to === 'raw' ? exact : Math.ceil(exact / 512) * 512
        t.match(result, { bytesTotal, bytesCopied: bytesTotal, epoch: 1 }, `${target} settled every byte`)
        t.match((await agent.image('local', target)).body, { state: 'ok', virtualSize: bytesTotal, copy: { phase: 'done', bytesDone: bytesTotal, taskId: target }, fixes: Empty })
      }
    }
  }
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same(await agent.fixes('local'), [])
})

t.test('holes and zeros take up no space in the target', async t => {
  for (const target of ['whole-from-raw.raw', 'whole-from-qcow2.raw', 'whole-from-raw.qcow2']) {
    const { blocks } = await stat(at(target))
    // of five blocks one is a hole, one is zeros and one is half full
    t.ok(blocks * 512 < 32 * MiB, `${target} ${blocks * 512}`)
  }
})

t.test('preallocated targets are reserved in full and stay so', async t => {
  for (const target of ['reserved.raw', 'reserved.qcow2']) {
    const { state } = await agent.done(target, copySpec('odd.raw', target, { target: { domain: 'local', image: target, allocation: 'preallocated' } }))
    t.equal(state, 'succeeded')
    t.equal(await compare(file('odd.raw'), file(target)), identical)
    t.ok((await stat(at(target))).blocks * 512 >= 9 * MiB + 1234, target)
  }
  t.equal(await sha256(at('reserved.raw')), await sha256(at('odd.raw')))
})

t.test('a backing chain in the domain is copied flat', async t => {
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', 'whole.raw', '-F', 'raw', at('middle.qcow2'))
  await sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 7 1M 2M', at('middle.qcow2'))
  // by an absolute path, and larger than what is below it
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-b', at('middle.qcow2'), '-F', 'qcow2', at('top.qcow2'), '50M')
  await sh('qemu-io', '-f', 'qcow2', '-c', 'write -P 9 2M 1M', '-c', 'write -z 3M 1M', at('top.qcow2'))
  await Promise.all(['middle.qcow2', 'top.qcow2'].map(async name => { await makeOld(at(name)) }))
  for (const target of ['flat.raw', 'flat.qcow2']) {
    t.match(await agent.done(target, copySpec('top.qcow2', target, { verify: true })), { state: 'succeeded', result: { verified: true, bytesTotal: 50 * MiB } })
    t.equal(await compare(file('top.qcow2'), file(target)), identical)
    t.notOk('backing-filename' in (JSON.parse(await sh('qemu-img', 'info', '--output=json', '-f', file(target).format, at(target))) as object))
  }
  await agent.accept('held', copySpec('top.qcow2', 'held.raw', { bandwidth: stalled }))
  for (const image of ['middle.qcow2', 'whole.raw']) t.match((await agent.refused(`delete-${image}`, deleteSpec(image))).body, { code: 'resource-busy' }, `${image} is kept while it is read`)
  await agent.request('PATCH', '/tasks/held', { body: { bandwidth: null } })
  t.match(await agent.finished('held'), { state: 'succeeded' })
})

t.test('a compressed source is copied as what it says', async t => {
  await sh('qemu-img', 'convert', '-c', '-f', 'raw', '-O', 'qcow2', at('odd.raw'), at('compressed.qcow2'))
  await makeOld(at('compressed.qcow2'))
  t.match(await agent.done('unpacked', copySpec('compressed.qcow2', 'unpacked.raw')), { state: 'succeeded' })
  t.equal(await compare(file('compressed.qcow2'), file('unpacked.raw')), identical)
})

t.test('a source that was written a moment ago is copied once its time can tell of further writes', async t => {
  await makeDisk(at('young.raw'), 4 * MiB)
  const now = new Date()
  await utimes(at('young.raw'), now, now)
  t.match(await agent.done('young', copySpec('young.raw', 'young-copy.raw')), { state: 'succeeded' })
  t.equal(await sha256(at('young-copy.raw')), await sha256(at('young.raw')))
})

t.test('verification has its own phase and says so in the end', async t => {
  const { result } = await agent.done('verified', copySpec('odd.qcow2', 'verified.raw', { verify: true }))
  t.match(result, { verified: true })
  t.match((await agent.image('local', 'verified.raw')).body.copy, { verified: true })
  const { result: other } = await agent.done('unverified', copySpec('odd.qcow2', 'unverified.raw'))
  t.notOk(other !== undefined && 'verified' in other)
})

t.test('a copy keeps to its bandwidth, also when its windows are small', async t => {
  await makeDisk(at('throttled.raw'), 6 * MiB, { blockBytes: 6 * MiB })
  const { startedAt = '', endedAt = '', state } = await agent.done('throttled', copySpec('throttled.raw', 'throttled-copy.raw', { bandwidth: 3 * MiB }))
  t.equal(state, 'succeeded')
  // not how fast it is, which nobody can promise: that it is not faster
  t.ok(Date.parse(endedAt) - Date.parse(startedAt) >= 2000 * 0.95, `${Date.parse(endedAt) - Date.parse(startedAt)} ms`)
})

t.test('a limit that is lifted takes effect at once', async t => {
  await agent.accept('lifted', copySpec('whole.raw', 'lifted.raw', { bandwidth: 1000 }))
  t.match(await agent.task('lifted'), { state: 'running' })
  t.equal((await agent.request('PATCH', '/tasks/lifted', { body: { bandwidth: null } })).status, 200)
  t.match(await agent.finished('lifted'), { state: 'succeeded' }, 'it would have taken hours')
  t.equal(await sha256(at('lifted.raw')), await sha256(at('whole.raw')))
})

t.test('a canceled copy stays interrupted, is mended without doing anything twice, and the same PUT would have done it, too', async t => {
  await makeDisk(at('big.raw'), 32 * MiB)
  for (const [target, how] of [['mended.raw', 'mend'], ['mended.qcow2', 'mend'], ['resumed.raw', 'put'], ['resumed.qcow2', 'put']] as const) {
    await agent.accept(target, copySpec('big.raw', target, { bandwidth: stalled }))
    await agent.untilDone('local', target, MiB)
    t.match((await agent.image('local', target)).body, { state: 'copying', copy: { host: { id: 'node1' }, taskId: target, source: { domain: 'local', image: 'big.raw' } } })
    t.equal((await agent.request('DELETE', `/tasks/${target}`)).status, 202)
    t.match(await agent.finished(target), { state: 'canceled' })

    const { body: { copy, state, fixes } } = await agent.image('local', target)
    const before = copy?.bytesDone ?? 0
    t.equal(state, 'interrupted')
    t.ok(before > 0 && before < 32 * MiB, `${before}`)
    const [mend, clean] = [mendSpec(target, { bandwidth: stalled }), { ...deleteSpec(target), copyId: copy?.copyId }]
    t.strictSame(fixes.map(({ action, task }) => [action, task]), [['mend', mend], ['clean', clean]])
    t.notOk((await readdir(domain)).includes(target))
    t.match((await agent.refused(`other-${target}`, copySpec('whole.raw', target))).body, { code: 'target-exists', copyTaskId: target, differs: ['source'] })

    const { state: end, result } = await agent.done(`${target}-2`, how === 'mend' ? mendSpec(target) : copySpec('big.raw', target))
    t.equal(end, 'succeeded')
    t.match(result, { bytesCopied: 32 * MiB - before, epoch: 2 }, 'each byte was settled by one of the two')
    t.equal(await compare(file('big.raw'), file(target)), identical)
  }
})

t.test('a copy that is done is confirmed without a byte copied; anything else of that name is refused with what differs', async t => {
  const mtime = (await stat(at('odd-from-raw.raw'))).mtimeMs
  t.match(await agent.done('again', copySpec('odd.raw', 'odd-from-raw.raw')), { state: 'succeeded', result: { alreadyDone: true, bytesCopied: 0, bytesMoved: 0 } })
  t.equal((await stat(at('odd-from-raw.raw'))).mtimeMs, mtime)

  const before = await listing(domain)
  for (const [spec, differs] of [
    [copySpec('whole.raw', 'odd-from-raw.raw'), ['source']],
    [copySpec('odd.raw', 'odd-from-raw.raw', { verify: true }), ['verify']],
    [copySpec('odd.raw', 'odd-from-raw.raw', { target: { domain: 'local', image: 'odd-from-raw.raw', allocation: 'preallocated' } }), ['allocation']],
    [copySpec('odd.raw', 'odd-from-raw.raw', { source: { domain: 'local', image: 'odd.raw', format: 'qcow2' } }), ['source format']]
  ] as const) {
    const { status, body } = await agent.refused('differs', spec)
    t.equal(status, 409)
    t.match(body, { code: 'target-exists', differs, copyTaskId: 'odd-from-raw.raw', completedAt: /^2/ })
  }
  t.same(await listing(domain), before)
  t.match((await agent.refused('mend-done', mendSpec('odd-from-raw.raw'))).body, { code: 'already-complete' })

  await writeFile(at('odd.raw'), 'x', { flag: 'a' })
  t.match((await agent.refused('source-written', copySpec('odd.raw', 'odd-from-raw.raw'))).body, { code: 'target-exists', differs: [/size of odd\.raw/] })
  await writeFile(at('whole-from-raw.raw'), 'x', { flag: 'r+' })
  t.match((await agent.refused('target-written', copySpec('whole.raw', 'whole-from-raw.raw'))).body, { code: 'target-exists', differs: [/target was written/] })
  t.match(await agent.done('delete-odd', deleteSpec('odd.raw')), { state: 'succeeded' })
  t.match((await agent.refused('source-gone', copySpec('odd.raw', 'odd-from-raw.raw'))).body, { code: 'target-exists', differs: ['the source is gone'] })
})

t.test('a source that changes during the copy fails it, and nothing gets the name', async t => {
  await agent.accept('changing', copySpec('big.raw', 'changing.raw', { bandwidth: stalled }))
  await agent.untilDone('local', 'changing.raw', MiB)
  await writeFile(at('big.raw'), 'changed', { flag: 'r+' })
  await agent.request('PATCH', '/tasks/changing', { body: { bandwidth: null } })
  t.match(await agent.finished('changing'), { state: 'failed', error: { code: 'source-changed' } })
  t.notOk((await readdir(domain)).includes('changing.raw'))
  t.match((await agent.image('local', 'changing.raw')).body, { state: 'interrupted', detail: /cannot be continued: its source in domain local has changed since it began \(.*of big\.raw\)/, fixes: [{ action: 'clean' }] })
  t.match(await agent.fixes('local'), [{ image: 'changing.raw', fixes: [{ action: 'clean' }] }], 'what cannot help is not offered')
  t.match((await agent.refused('mend-changed', mendSpec('changing.raw'))).body, { code: 'source-changed', status: 409, differs: [/of big\.raw/] })
  t.match(await agent.done('clean-changed', deleteSpec('changing.raw')), { state: 'succeeded' })
  t.same(await agent.fixes('local'), [])
})

t.test('a mismatch found by the verification keeps the image invisible, and mending copies it anew', async t => {
  await makeDisk(at('checked.raw'), 16 * MiB)
  await agent.accept('checked', copySpec('checked.raw', 'checked-copy.raw', { bandwidth: stalled, verify: true }))
  await agent.untilDone('local', 'checked-copy.raw', MiB)
  const [part = ''] = await readdir(at('.vdsm-tasks/parts'))
  await writeFile(at(`.vdsm-tasks/parts/${part}`), 'broken', { flag: 'r+' })
  await agent.request('PATCH', '/tasks/checked', { body: { bandwidth: null } })
  t.match(await agent.finished('checked'), { state: 'failed', error: { code: 'verification-failed' } })
  t.notOk((await readdir(domain)).includes('checked-copy.raw'))
  t.match((await agent.image('local', 'checked-copy.raw')).body, { state: 'interrupted', copy: { bytesDone: 0 } })
  t.match(await agent.done('checked-mend', mendSpec('checked-copy.raw')), { state: 'succeeded', result: { verified: true, bytesCopied: 16 * MiB } })
  t.equal(await sha256(at('checked-copy.raw')), await sha256(at('checked.raw')))
})

t.test('a file that takes the name during the copy is left alone, and the copy is kept', async t => {
  await makeDisk(at('raced.raw'), 16 * MiB)
  await agent.accept('raced', copySpec('raced.raw', 'raced-copy.raw', { bandwidth: stalled }))
  await agent.untilDone('local', 'raced-copy.raw', MiB)
  await writeFile(at('raced-copy.raw'), 'somebody else\'s')
  await agent.request('PATCH', '/tasks/raced', { body: { bandwidth: null } })
  t.match(await agent.finished('raced'), { state: 'failed', error: { code: 'target-exists' } })
  t.match((await agent.image('local', 'raced-copy.raw')).body, { state: 'illegal', fixes: [{ action: 'clean' }] })
  t.match((await agent.refused('raced-mend', mendSpec('raced-copy.raw'))).body, { code: 'target-exists' })
  t.match((await agent.refused('raced-again', copySpec('raced.raw', 'raced-copy.raw'))).body, { code: 'target-exists' })
  t.match(await agent.done('raced-clean', deleteSpec('raced-copy.raw')), { state: 'succeeded', result: { bytesFreed: Number } })
  t.equal(await readFile(at('raced-copy.raw'), 'utf8'), 'somebody else\'s')
  t.match((await agent.image('local', 'raced-copy.raw')).body, { state: 'ok' })
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
})

t.test('images are created, in each format and allocation, and deleted', async t => {
  for (const format of ['raw', 'qcow2'] as const) {
    for (const allocation of ['sparse', 'preallocated'] as const) {
      const image = `new-${allocation}.${format}`
      const spec = { kind: 'storage.createImage', domain: 'local', image, virtualSize: 3 * MiB + 512, allocation }
      // a raw image that ends inside a block of 4 KiB cannot be opened on a disk with such blocks
      const virtualSize = 3 * MiB + (format === 'raw' ? 4096 : 512)
      t.match(await agent.done(image, spec), { state: 'succeeded', result: { domain: 'local', image, virtualSize } })
      t.match((await agent.image('local', image)).body, { state: 'ok', format, virtualSize })
      t.equal((await stat(at(image))).blocks * 512 >= 3 * MiB, allocation === 'preallocated')
      t.match((await agent.refused(`${image}-2`, spec)).body, { code: 'image-exists', status: 409 })
      t.match(await agent.done(`delete-${image}`, deleteSpec(image)), { state: 'succeeded' })
      t.equal((await agent.image('local', image)).status, 404)
    }
  }
  t.match(await agent.done('nothing', { kind: 'storage.createImage', domain: 'local', image: 'nothing.qcow2', virtualSize: 0 }), { state: 'succeeded' })
  const blocks = (await stat(at('flat.raw'))).blocks
  t.match(await agent.done('delete-flat', deleteSpec('flat.raw')), { result: { bytesFreed: blocks * 512 } }, 'what was freed is told')
})

t.test('an interrupted copy can be deleted instead, and its name used again', async t => {
  await makeDisk(at('once.raw'), 16 * MiB)
  await agent.accept('once', copySpec('once.raw', 'twice.raw', { bandwidth: stalled }))
  await agent.untilDone('local', 'twice.raw', MiB)
  t.match((await agent.refused('delete-running', deleteSpec('twice.raw'))).body, { code: 'resource-busy', holder: 'once' })
  t.match((await agent.refused('delete-source', deleteSpec('once.raw'))).body, { code: 'resource-busy', holder: 'once' })
  await agent.request('DELETE', '/tasks/once')
  await agent.finished('once')
  const { result } = await agent.done('delete-twice', deleteSpec('twice.raw'))
  t.ok(result !== undefined && 'bytesFreed' in result && Number(result['bytesFreed']) > 0)
  t.equal((await agent.image('local', 'twice.raw')).status, 404)
  t.match(await agent.done('twice', copySpec('once.raw', 'twice.raw')), { state: 'succeeded', result: { epoch: 1 } })
})

t.test('a record that cannot be read is told, offered for cleaning, and cleaned', async t => {
  for (const content of ['rubbish', '{"version":1}', '']) {
    await writeFile(at('.vdsm-tasks/copies/spoiled.raw.json'), content)
    await until(async () => (await agent.image('local', 'spoiled.raw')).status === 200)
    t.match((await agent.image('local', 'spoiled.raw')).body, { state: 'illegal', detail: /cannot be used/ })
    const fixes = await until(async () => {
      const found = await agent.fixes('local')
      return found.length > 0 && found
    })
    t.match(fixes, [{ image: 'spoiled.raw', fixes: [{ action: 'clean', task: deleteSpec('spoiled.raw') }] }])
    const before = await listing(domain)
    t.match((await agent.refused('onto-spoiled', copySpec('once.raw', 'spoiled.raw'))).body, { code: 'record-invalid', status: 422 })
    t.match((await agent.refused('mend-spoiled', mendSpec('spoiled.raw'))).body, { code: 'record-invalid', status: 422 })
    t.same(withoutLeases(await listing(domain)), withoutLeases(before))
    t.match(await agent.done(`clean-spoiled-${content.length}`, deleteSpec('spoiled.raw')), { state: 'succeeded' })
    t.same(await agent.fixes('local'), [])
  }
})

t.test('copies between two directions, of a copy, and many at a time do not disturb each other', async t => {
  const targets = Array.from({ length: 6 }, (_, index) => `many-${index}.${index % 2 === 0 ? 'raw' : 'qcow2'}`)
  for (const target of targets) t.equal((await agent.put(target, copySpec('once.raw', target))).status, 202)
  for (const target of targets) {
    t.match(await agent.finished(target), { state: 'succeeded' })
    t.equal(await compare(file('once.raw'), file(target)), identical)
  }
  t.match(await agent.done('of-a-copy', copySpec('many-1.qcow2', 'of-a-copy.raw')), { state: 'succeeded' })
  t.equal(await sha256(at('of-a-copy.raw')), await sha256(at('once.raw')))
})

t.test('nothing is left over at the end but domain.json, leases, host files and the records of complete copies', async t => {
  t.same(await agent.fixes('local'), [])
  t.same(await readdir(at('.vdsm-tasks/parts')), [])
  t.same((await readdir(at('.vdsm-tasks'))).sort(), ['copies', 'domain.json', 'hosts', 'leases', 'parts'])
  const records = await readdir(at('.vdsm-tasks/copies'))
  t.ok(records.length > 20, `${records.length} records`)
  for (const name of records) {
    t.match(name, /\.json$/)
    t.match(JSON.parse(await readFile(at(`.vdsm-tasks/copies/${name}`), 'utf8')), { phase: 'done' })
  }
  const used = (await listing(at('.vdsm-tasks/leases'))).filter(line => !/ file 0 /.test(line))
  t.same(used, [])
})

/** A look at who holds a lease makes its file: that is no change to any image. */
function withoutLeases (lines: string[]): string[] {
  return lines.filter(line => !line.startsWith('.vdsm-tasks/leases'))
}
