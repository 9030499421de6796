import t from 'tap'
import { SpaceLedger } from '../../src/storage/space-ledger.ts'

const claim = (of: { key?: string, domain?: string, device?: string, bytesNeeded: number, bytesFree: number, force?: boolean, bytesElsewhere?: number }) =>
  ({ domain: 'local', device: '1', key: 'a.raw', force: false, ...of })

t.test('what other copies still need is not free, until they have ended', async t => {
  const ledger = new SpaceLedger()
  const [first, second] = [ledger.join(), ledger.join()]
  t.strictSame(first.claim(claim({ bytesNeeded: 60, bytesFree: 100 })), { granted: true, bytesReserved: 0 })
  t.strictSame(second.claim(claim({ bytesNeeded: 41, bytesFree: 100 })), { granted: false, bytesReserved: 60 })
  t.strictSame(second.claim(claim({ bytesNeeded: 40, bytesFree: 100 })), { granted: true, bytesReserved: 60 }, 'to the last byte')
  t.equal(ledger.reservedIn('local'), 100)
  first.leave()
  t.equal(ledger.reservedIn('local'), 40)
})

t.test('who only asks is told the same, and takes nothing', async t => {
  const ledger = new SpaceLedger()
  t.strictSame(ledger.ask(claim({ bytesNeeded: 60, bytesFree: 100 })), { granted: true, bytesReserved: 0 })
  t.strictSame(ledger.join().claim(claim({ bytesNeeded: 100, bytesFree: 100 })), { granted: true, bytesReserved: 0 })
  t.strictSame(ledger.ask(claim({ bytesNeeded: 1, bytesFree: 100 })), { granted: false, bytesReserved: 100 })
})

t.test('what a copy has written is no longer reserved: the file system counts it', async t => {
  const ledger = new SpaceLedger()
  const [first, second] = [ledger.join(), ledger.join()]
  first.claim(claim({ bytesNeeded: 60, bytesFree: 100 }))
  first.settle('a.raw', 10)
  first.settle('unknown.raw', 1000)
  t.strictSame(second.claim(claim({ bytesNeeded: 40, bytesFree: 50 })), { granted: true, bytesReserved: 10 })
})

t.test('domains on the same file system share its space, others do not', async t => {
  const ledger = new SpaceLedger()
  ledger.join().claim(claim({ bytesNeeded: 60, bytesFree: 100 }))
  const other = ledger.join()
  t.strictSame(other.claim(claim({ domain: 'other', bytesNeeded: 60, bytesFree: 100 })), { granted: false, bytesReserved: 60 })
  t.strictSame(other.claim(claim({ domain: 'far', device: '2', bytesNeeded: 60, bytesFree: 100 })), { granted: true, bytesReserved: 0 })
  t.equal(ledger.reservedIn('other'), 0)
})

t.test('the volumes of one command add up, and a claim that is made again counts once', async t => {
  const ledger = new SpaceLedger()
  const chain = ledger.join()
  chain.claim(claim({ key: 'base', bytesNeeded: 30, bytesFree: 100 }))
  t.strictSame(chain.claim(claim({ key: 'top', bytesNeeded: 80, bytesFree: 100 })), { granted: false, bytesReserved: 30 })
  t.strictSame(chain.claim(claim({ key: 'base', bytesNeeded: 50, bytesFree: 100 })), { granted: true, bytesReserved: 0 })
  t.equal(ledger.reservedIn('local'), 50)
})

t.test('a refused claim takes nothing, and one that is forced takes what there is', async t => {
  const ledger = new SpaceLedger()
  const account = ledger.join()
  t.equal(account.claim(claim({ bytesNeeded: 101, bytesFree: 100 })).granted, false)
  t.equal(ledger.reservedIn('local'), 0)
  t.strictSame(account.claim(claim({ bytesNeeded: 101, bytesFree: 100, force: true })), { granted: true, bytesReserved: 0 })
  t.equal(ledger.reservedIn('local'), 101)
})

t.test('what other hosts need is not free either, and not counted twice', async t => {
  const ledger = new SpaceLedger()
  const [first, second] = [ledger.join(), ledger.join()]
  t.strictSame(first.claim(claim({ bytesNeeded: 60, bytesFree: 100, bytesElsewhere: 41 })), { granted: false, bytesReserved: 41 })
  t.strictSame(first.claim(claim({ bytesNeeded: 60, bytesFree: 100, bytesElsewhere: 40 })), { granted: true, bytesReserved: 40 })
  t.strictSame(second.claim(claim({ key: 'b.raw', bytesNeeded: 1, bytesFree: 100, bytesElsewhere: 40 })), { granted: false, bytesReserved: 100 })
  t.strictSame(ledger.keysIn('local'), ['a.raw'])
  t.strictSame(ledger.keysIn('other'), [])
})
