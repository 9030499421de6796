import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { startCluster } from '../gluster/cluster/cluster.ts'
import { shareDomain } from '../gluster/cluster/domain.ts'
import { forgottenMs } from '../../src/storage/lease.ts'

// Two hosts of a GlusterFS volume take leases while both remove the files of leases that nobody has. Each sees names and
// numbers of the other one late, and yet no lease ever has two holders.

const seconds = Number(process.env['LEASE_SECONDS'] ?? 60)
t.setTimeout(300_000 + seconds * 1000)

const cluster = await startCluster(t)
const domain = await shareDomain(cluster)
// it prepares the domain
await domain.start(1)
const rival = fileURLToPath(new URL('../helpers/contend-for-lease.ts', import.meta.url))

t.test('no lease has two holders', async t => {
  // the hosts are namespaces of this one: both see this directory, and without a cache
  const place = await mkdtemp(join(tmpdir(), 'vdsm-tasks-leases-'))
  const contend = async (host: 1 | 2, role: 'work' | 'remove') => {
    const argv = [process.execPath, ...process.execArgv, rival, '/srv/data/local/.vdsm-tasks/leases', place, role, String(seconds), String(forgottenMs)]
    const { stdout, stderr, code } = await cluster.exec(host, ...argv)
    t.equal(code, 0, stderr)
    return stdout.trim().split('\n')
  }
  const found = await Promise.all(([1, 2] as const).flatMap(host => [contend(host, 'work'), contend(host, 'work'), contend(host, 'remove')]))
  t.comment(found.map(lines => lines.at(-1)).join(' '))
  t.strictSame(found.flat().filter(line => line.startsWith('two holders')), [])
  for (const [index, lines] of found.entries()) t.ok(Number(lines.at(-1)) > 0, `contender ${index}: ${lines.at(-1)}`)
})
