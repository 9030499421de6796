import { randomUUID } from 'node:crypto'
import { readdir, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { openArea, prepareArea, type Area } from '../../../src/storage/area.ts'
import { sweep } from '../../../src/storage/domain/sweep.ts'
import { takeLease } from '../../../src/storage/lease.ts'
import { keyOf, type CopyRecord } from '../../../src/storage/record.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'
import { recordOf } from '../../helpers/records.ts'

const dayMs = 24 * 60 * 60 * 1000

interface Scene {
  area: Area
  /** Makes a record that was last written so many days ago. */
  write: (record: Partial<CopyRecord>, days: number) => Promise<void>
  /** Makes a part of this age. */
  part: (name: string, minutes: number) => Promise<void>
  left: (room: 'copies' | 'leases' | 'parts') => Promise<string[]>
}

async function scene (t: Test): Promise<Scene> {
  const path = await temporaryDirectory(t)
  await prepareArea({ id: 'local', path }, true)
  const area = await openArea({ id: 'local', path })
  t.teardown(async () => { await area.close() })
  const own = (...names: string[]) => join(path, '.vdsm-tasks', ...names)
  const age = async (file: string, ms: number) => {
    const at = new Date(Date.now() - ms)
    await utimes(file, at, at)
  }
  return {
    area,
    write: async (more, days) => {
      const record = recordOf({ copyId: randomUUID(), phase: 'done', ...more })
      const file = own('copies', `${keyOf(record)}.json`)
      await writeFile(file, JSON.stringify(record))
      await age(file, days * dayMs)
    },
    part: async (name, minutes) => {
      await writeFile(own('parts', name), '')
      await age(own('parts', name), minutes * 60_000)
    },
    left: async room => (await readdir(own(room))).sort()
  }
}

t.test('records of copies that were complete long ago go, all others stay', async t => {
  const { area, write, left } = await scene(t)
  await write({ image: 'old.raw' }, 91)
  await write({ image: 'young.raw' }, 89)
  await write({ image: 'open.raw', phase: 'copying' }, 400)
  await write({ image: 'deleting.raw', phase: 'deleting' }, 400)
  t.strictSame(await sweep(area, { keepDoneDays: 90 }), { parts: [], records: 1, leases: 0 })
  t.strictSame(await left('copies'), ['deleting.raw.json', 'open.raw.json', 'young.raw.json'])
  t.strictSame(await sweep(area, { keepDoneDays: 90 }), { parts: [], records: 0, leases: 0 })
})

t.test('a record that somebody has the lease of, or that cannot be read, stays', async t => {
  const { area, write, left } = await scene(t)
  await write({ image: 'held.raw' }, 91)
  await write({ image: 'odd.raw', epoch: 0 }, 91)
  const lease = await takeLease(area.leases, 'held.raw', 'exclusive')
  t.match(await sweep(area, { keepDoneDays: 90 }), { records: 0 })
  t.strictSame(await left('copies'), ['held.raw.json', 'odd.raw.json'])
  await lease?.release()
  t.match(await sweep(area, { keepDoneDays: 90 }), { records: 1 })
})

t.test('the volumes of a chain whose copy goes on keep their records', async t => {
  const { area, write, left } = await scene(t)
  const [image, top, below, id] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()]
  await write({ image, volume: top, phase: 'copying' }, 91)
  await write({ image, volume: below, partOf: { image, volume: top, id } }, 91)
  t.match(await sweep(area, { keepDoneDays: 90 }), { records: 0 })
  await write({ image, volume: top, phase: 'done' }, 1)
  t.match(await sweep(area, { keepDoneDays: 90 }), { records: 1 })
  t.strictSame(await left('copies'), [`${image}.${top}.json`])
})

t.test('a part goes when it is old and no record speaks of it', async t => {
  const { area, write, part, left } = await scene(t)
  const copyId = randomUUID()
  await write({ image: 'open.raw', phase: 'copying', copyId }, 1)
  await part(copyId, 60)
  await part('stray', 60)
  await part('young', 1)
  t.match(await sweep(area, { keepDoneDays: 90 }), { parts: ['stray'] })
  t.strictSame(await left('parts'), [copyId, 'young'].sort())
  await write({ image: 'odd.raw', epoch: 0 }, 1)
  await part('stray', 60)
  t.strictSame(await sweep(area, { keepDoneDays: 90 }), { parts: [], records: 0, leases: 0 }, 'nobody knows what a record speaks of that cannot be read')
})

t.test('a lease file goes when nothing has its name any more', async t => {
  const { area, write, left } = await scene(t)
  const touch = async (name: string, minutes: number) => {
    await writeFile(join(area.path, '.vdsm-tasks/leases', name), '')
    const at = new Date(Date.now() - minutes * 60_000)
    await utimes(join(area.path, '.vdsm-tasks/leases', name), at, at)
  }
  await write({ image: 'recorded.raw', phase: 'copying' }, 1)
  await writeFile(join(area.path, 'image.raw'), '')
  for (const name of ['recorded.raw', 'image.raw', 'gone.raw', 'held.raw', '.making']) await touch(name, 60)
  await touch('young.raw', 1)
  const lease = await takeLease(area.leases, 'held.raw', 'shared')
  t.strictSame(await sweep(area, { keepDoneDays: 90 }), { parts: [], records: 0, leases: 1 })
  t.strictSame(await left('leases'), ['.making', 'held.raw', 'image.raw', 'recorded.raw', 'young.raw'])
  await lease?.release()
})
