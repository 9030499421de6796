import t from 'tap'
import { nextGeneration } from '../../../../src/storage/layout/ovirt/volume-metadata.ts'

t.test('a generation goes up by one, and begins again after 999', async t => {
  t.equal(nextGeneration(0), 1)
  t.equal(nextGeneration(998), 999)
  t.equal(nextGeneration(999), 0)
})
