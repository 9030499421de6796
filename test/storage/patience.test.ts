import t from 'tap'
import { patience } from '../../src/storage/patience.ts'
import { failureOf as missing } from '../helpers/system-error.ts'

for (const code of ['ENOENT', 'ESTALE'] as const) {
  t.test(`on a shared file system ${code} is not believed at once`, async t => {
    let reads = 0
    t.equal(await patience({ local: false })(async () => { if (++reads < 3) throw missing(code); return reads }), 3)
  })
}

t.test('on a shared file system what should be there is looked for again', async t => {
  let reads = 0
  t.equal(await patience({ local: false })(async () => ++reads, found => found === 3), 3)
})

t.test('it is believed in the end, and then at once by all reads that share the wait', async t => {
  const patiently = patience({ local: false })
  let reads = 0
  await t.rejects(patiently(async () => { reads++; throw missing('ENOENT') }), { code: 'ENOENT' })
  t.ok(reads > 1)
  reads = 0
  t.equal(await patiently(async () => ++reads, () => false), 1)
})

t.test('other errors, and any on a local file system, are believed at once', async t => {
  for (const [local, code] of [[false, 'EACCES'], [true, 'ENOENT'], [true, 'ESTALE']] as const) {
    let reads = 0
    await t.rejects(patience({ local })(async () => { reads++; throw missing(code) }), { code: missing(code).code ?? '' })
    t.equal(reads, 1)
  }
  t.equal(await patience({ local: true })(async () => 1, () => false), 1)
})
