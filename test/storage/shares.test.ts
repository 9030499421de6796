import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { share, Shares, type Claim } from '../../src/storage/shares.ts'

const domains = ['a', 'b', 'c']
const claims = fc.array(fc.record({
  own: fc.option(fc.integer({ min: 1, max: 2000 })),
  domains: fc.uniqueArray(fc.constantFrom(...domains), { minLength: 1, maxLength: 2 })
}), { maxLength: 8 })
const ceilings = fc.record({
  host: fc.option(fc.integer({ min: 100, max: 5000 }), { nil: undefined }),
  domains: fc.uniqueArray(fc.tuple(fc.constantFrom(...domains), fc.integer({ min: 100, max: 5000 })), { selector: ([id]) => id }).map(entries => new Map(entries))
})

t.test('no ceiling is exceeded, and nothing that could be used is left', async t => {
  t.doesNotThrow(() => {
    fc.assert(fc.property(claims, ceilings, (claims, ceilings) => {
      const shares = share(claims, ceilings)
      const sum = (of: (claim: Claim) => boolean) => claims.reduce((sum, claim, index) => sum + (of(claim) ? shares[index] ?? 0 : 0), 0)
      // each of some copies gets at least a byte per second, and a whole number of them
      const bounds = [...ceilings.domains].map(([id, limit]) => ({ limit, of: (claim: Claim) => claim.domains.includes(id) }))
      if (ceilings.host !== undefined) bounds.push({ limit: ceilings.host, of: () => true })
      for (const { limit, of } of bounds) assert.ok(sum(of) <= limit)
      for (const [index, claim] of claims.entries()) {
        const mine = shares[index] ?? null
        if (claim.own !== null) assert.ok(mine !== null && mine <= claim.own)
        const binding = bounds.filter(({ of }) => of(claim))
        if (mine === null) assert.equal(binding.length, 0)
        // what holds it back is its own limit, or a ceiling that is used up and of which nobody has more
        else if (mine !== claim.own) {
          assert.ok(binding.some(({ limit, of }) => limit - sum(of) < claims.length && claims.every((other, at) => !of(other) || (shares[at] ?? 0) <= mine + 1)))
        }
      }
    }))
  })
})

t.test('what a slow copy leaves, the others get', async t => {
  const on = (own: number | null, ...domains: string[]): Claim => ({ own, domains })
  t.same(share([on(100, 'a'), on(null, 'a'), on(null, 'b')], { host: 1000, domains: new Map() }), [100, 450, 450])
  t.same(share([on(null, 'a'), on(null, 'a'), on(null, 'b')], { host: 1000, domains: new Map([['a', 200]]) }), [100, 100, 800])
  t.same(share([on(null, 'a', 'b'), on(null, 'b')], { domains: new Map([['a', 10]]) }), [10, null])
  t.same(share([on(null, 'a'), on(7, 'a')], { domains: new Map() }), [null, 7])
})

t.test('a copy is told when its share changes: as others come, go and are changed, and only then', async t => {
  const shares = new Shares({ host: 100, domains: new Map() })
  const told: string[] = []
  const join = (name: string, own: number | null) => shares.join({ own, domains: ['a'] }, bandwidth => { told.push(`${name} ${bandwidth}`) })
  const a = join('a', null)
  const b = join('b', null)
  b.change({ own: 10 })
  b.change({ own: 10 })
  b.change({ own: null })
  a.leave()
  b.leave()
  t.same(told, ['a 100', 'a 50', 'b 50', 'a 90', 'b 10', 'a 50', 'b 50', 'b 100'])
})
