import t from 'tap'
import type { Operation } from '../../src/api/operation.ts'
import { startCluster, until, type Cluster } from '../gluster/cluster/cluster.ts'

t.setTimeout(1_800_000)

const rounds = Number(process.env['VDSM_TASKS_ROUNDS'] ?? 5)
const files = 800
const cluster = await startCluster(t)
const one = await cluster.agent(1)

async function run (cluster: Cluster, host: number, script: string): Promise<string> {
  const { code, stdout, stderr } = await cluster.exec(host, 'sh', '-ec', script)
  if (code !== 0) throw new Error(stderr)
  return stdout
}

/** Whether every file is there under its name and holds what it held. */
async function allThere (volume: string): Promise<string> {
  return await run(cluster, 1, `mkdir -p /srv/check; mount -t glusterfs node1:/${volume} /srv/check; cd /srv/check
    sha256sum --quiet -c /run/${volume}.sums 2>&1 | tail -3 || true
    test $(find . -type f | wc -l) = ${files} || echo "$(find . -type f | wc -l) files"
    cd /; umount /srv/check`)
}

/** What the refusal says of files that were on their way: each is compared with the volume, and removed from the brick. */
async function removeHalfMoved (volume: string): Promise<string> {
  return await run(cluster, 2, `mkdir -p /srv/look; mount -t glusterfs node1:/${volume} /srv/look; cd /srv/1/${volume}
    find . -path ./.glusterfs -prune -o -type f -perm -3000 -print | while read -r name; do
      cmp "$name" "/srv/look/$name"; find . -samefile "$name" -delete; echo "removed $name"
    done; cd /; umount /srv/look`)
}

/** Nothing goes on any more: it is over, or its process is dead, of which Gluster says that it is in progress for ever. */
function isOver ({ state, nodes }: Operation): boolean {
  return /^(completed|failed|stopped)$/.test(state) || (nodes.length > 0 && nodes.every(({ stalledSince }) => stalledSince !== undefined))
}

for (let round = 1; round <= rounds; round++) {
  t.test(`a host that was without power during a removal loses no file, round ${round}`, async t => {
    const volume = `v${round}`
    const brick = `node2:/srv/1/${volume}`
    const bricks = [brick]
    const removal = { kind: 'gluster.startRemoveBrick', volume, bricks }
    const commit = { kind: 'gluster.commitRemoveBrick', volume, bricks }
    await cluster.gluster(1, 'volume', 'create', volume, ...[1, 2, 3].map(host => `node${host}:/srv/1/${volume}`))
    await cluster.gluster(1, 'volume', 'start', volume)
    await run(cluster, 1, `mkdir -p /srv/${volume}; mount -t glusterfs node1:/${volume} /srv/${volume}; cd /srv/${volume}
      for d in $(seq 8); do mkdir $d; for f in $(seq ${files / 8}); do head -c 20000 /dev/urandom > $d/$f; done; done
      find . -type f | sort | xargs sha256sum > /run/${volume}.sums; cd /; umount /srv/${volume}`)

    await cluster.slow(8)
    t.match(await one.run(`start-${round}`, removal), { result: { operationId: String } })
    await until(() => one.list(), ({ items }) => items.some(item => item.volume === volume && item.totals.files > 0))
    await cluster.cut(2)
    await until(() => cluster.gluster(1, 'pool', 'list'), list => list.includes('Disconnected'), 60)
    await cluster.gluster(1, 'volume', 'set', volume, 'performance.cache-size', '16MB')
    await cluster.boot(2)
    await cluster.fast()
    await until(() => cluster.gluster(1, 'pool', 'list'), list => !list.includes('Disconnected'), 60)
    await until(() => cluster.gluster(1, 'volume', 'status', volume), status => new RegExp(`${brick} .*Y`).test(status.replace(/\n/g, ' ')), 60)

    let attempts = 0
    while (true) {
      const { items } = await until(() => one.list(), ({ items }) => items.some(item => item.volume === volume && item.problem === undefined && isOver(item)), 180)
      t.comment(JSON.stringify(items.find(item => item.volume === volume)))
      const { result, error } = await one.run(`commit-${round}`, commit, { reused: attempts > 0 })
      if (result !== undefined) break
      t.match(error, { code: /^(bricks-not-empty|remove-brick-unfinished)$/, changed: false, detail: /"restart": true/ })
      t.comment(error?.detail)
      if (++attempts > 4) throw new Error('no way forward')
      const bricks = error?.['bricks'] as Array<{ halfMoved?: number }> | undefined
      if (attempts > 2 && bricks?.some(({ halfMoved = 0 }) => halfMoved > 0) === true) t.comment(await removeHalfMoved(volume))
      const again = await one.run(`again-${round}-${attempts}`, { ...removal, restart: true })
      t.match(again, { result: { operationId: String } }, JSON.stringify(again.error))
    }
    t.comment(`committed after ${attempts} refusals`)
    t.notMatch(await cluster.gluster(1, 'volume', 'info', volume), brick)
    t.equal(await allThere(volume), '')
    await cluster.gluster(1, 'volume', 'stop', volume)
    await cluster.gluster(1, 'volume', 'delete', volume)
  })
}
