import { mkdir, rename, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { NameList, namesAfter } from '../../../src/storage/layout/name-list.ts'
import { closeFd, namesIn, openDirectory, statFd } from '../../../src/system/directory.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { until } from '../../helpers/processes.ts'

/** A directory with files, and a list of their names that counts how often it was read. */
async function scene (t: Test, names: string[]) {
  const path = join(await temporaryDirectory(t), 'names')
  await mkdir(path)
  for (const name of names) await writeFile(join(path, name), '')
  const directory = await openDirectory(path)
  t.teardown(async () => { await closeFd(directory.fd) })
  const reads = { count: 0 }
  const list = new NameList(async from => {
    reads.count++
    return await namesIn(from, 1000) ?? []
  })
  /** As if nothing had happened there for a while. */
  const settle = async () => { await utimes(path, 1e9, 1e9) }
  return { path, directory, reads, settle, get: async () => (await list.get({ directory, local: true })).names }
}

t.test('a directory that stays as it is is read once', async t => {
  const { get, reads, settle } = await scene(t, ['b', 'a', 'c'])
  await settle()
  for (let times = 0; times < 5; times++) t.strictSame(await get(), ['a', 'b', 'c'])
  t.equal(reads.count, 1)
})

t.test('a name that is new, renamed or gone is seen at once', async t => {
  const { path, get, reads, settle } = await scene(t, ['a'])
  await settle()
  t.strictSame(await get(), ['a'])
  await writeFile(join(path, 'b'), '')
  t.strictSame(await get(), ['a', 'b'])
  await rename(join(path, 'a'), join(path, 'c'))
  t.strictSame(await get(), ['b', 'c'])
  // within one tick of its clock, a directory may change without a trace
  const before = reads.count
  await get()
  t.equal(reads.count, before + 1, 'what has changed a moment ago is read again')
})

t.test('many who ask at once share a look, and it has begun after they asked', async t => {
  const { path, directory } = await scene(t, ['a'])
  let reads = 0
  let goOn = () => {}
  const held = new Promise<void>(resolve => { goOn = resolve })
  const list = new NameList(async from => {
    reads++
    const names = await namesIn(from, 1000) ?? []
    if (reads === 1) await held
    return names
  })
  const first = list.get({ directory, local: true })
  await until(() => reads === 1)
  await writeFile(join(path, 'b'), '')
  const others = Array.from({ length: 50 }, async () => await list.get({ directory, local: true }))
  // all of them have looked at the directory by then
  for (let looks = 0; looks < 100; looks++) await statFd(directory.fd)
  goOn()
  t.strictSame((await first).names, ['a'])
  for (const { names } of await Promise.all(others)) t.strictSame(names, ['a', 'b'])
  t.ok(reads <= 3, `${reads} looks`)
})

t.test('the names behind a name', async t => {
  const names = ['a', 'b', 'd']
  for (const [after, rest] of [['', names], ['a', ['b', 'd']], ['c', ['d']], ['d', []], ['z', []]] as const) {
    t.strictSame(namesAfter(names, after), rest, after)
  }
  t.strictSame(namesAfter([], 'a'), [])
})
