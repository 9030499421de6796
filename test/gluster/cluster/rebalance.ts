import type { Operation } from '../../../src/api/operation.ts'
import type { Cluster } from './cluster.ts'

/** A volume v0 with a brick on each of these hosts and some files in it, mounted on host 1 at /srv/mnt. */
export async function fillVolume (cluster: Cluster, { perDirectory, bytes, hosts }: { perDirectory: number, bytes: number, hosts: readonly number[] }): Promise<void> {
  await cluster.gluster(1, 'volume', 'create', 'v0', ...hosts.map(host => `node${host}:/srv/1/v0`))
  await cluster.gluster(1, 'volume', 'start', 'v0')
  const { code, stderr } = await cluster.exec(1, 'sh', '-ec', `
    mkdir /srv/mnt
    mount -t glusterfs node1:/v0 /srv/mnt
    for d in 1 2 3 4 5 6; do
      mkdir /srv/mnt/$d
      for f in $(seq ${perDirectory}); do head -c ${bytes} /dev/urandom > /srv/mnt/$d/$f; done
    done
    cd /srv/mnt
    find . -type f | sort | xargs sha256sum > /run/sums
    wc -l < /run/sums > /run/count`)
  if (code !== 0) throw new Error(stderr)
}

/** Such a volume on hosts 1 and 2, and a new brick on host 3: there is something to move. */
export async function fillAndGrowVolume (cluster: Cluster, files: { perDirectory: number, bytes: number }): Promise<void> {
  await fillVolume(cluster, { ...files, hosts: [1, 2] })
  await cluster.gluster(1, 'volume', 'add-brick', 'v0', 'node3:/srv/1/v0')
}

/** Whether every file that was there at first still is, unchanged and once. */
export async function allFilesAreThere (cluster: Cluster): Promise<boolean> {
  const { code } = await cluster.exec(1, 'sh', '-c', 'cd /srv/mnt && sha256sum --quiet -c /run/sums && test $(find [1-6] -type f | wc -l) = $(cat /run/count)')
  return code === 0
}

/** What `gluster volume rebalance v0 status` itself says, by host uuid. */
export async function statusByHand (cluster: Cluster): Promise<Map<string, string[]>> {
  const xml = await cluster.gluster(1, '--xml', 'volume', 'rebalance', 'v0', 'status')
  const member = (node: string, name: string): string => new RegExp(`<${name}>(.*?)</${name}>`).exec(node)?.[1] ?? ''
  return new Map([...xml.matchAll(/<node>(.*?)<\/node>/gs)].map(([, node = '']) =>
    [member(node, 'id'), ['files', 'size', 'lookups', 'failures', 'skipped'].map(name => member(node, name))]))
}

/** The same of an operation as an agent tells it. */
export function numbersOf ({ nodes }: Operation): Map<string, string[]> {
  return new Map(nodes.map(node => [node.hostUuid, [node.files, node.bytes, node.scanned, node.failures, node.skipped].map(String)]))
}

/** Runs a script on a host; its failure is an error. */
export async function runOn (cluster: Cluster, host: number, script: string): Promise<string> {
  const { code, stdout, stderr } = await cluster.exec(host, 'sh', '-ec', script)
  if (code !== 0) throw new Error(stderr)
  return stdout.trim()
}

/** What slows bricks down, from their next start on: Gluster's own translator waits before each write and each layout. */
const slowly = { 'debug.delay-gen': 'posix', 'delay-gen.delay-duration': '4000000', 'delay-gen.delay-percentage': '100', 'delay-gen.enable': 'write,setxattr' }

/**
 * A volume with a brick on each of these hosts and some files, mounted on host 1. With `slow`, operations on it take
 * longer than a busy machine needs to look at them.
 */
export async function makeVolume (cluster: Cluster, volume: string, hosts: readonly number[], { slow = true, directories = 3, files = 16 } = {}): Promise<void> {
  const gluster = async (...words: string[]): Promise<unknown> => await cluster.gluster(1, 'volume', ...words)
  await gluster('create', volume, ...hosts.map(host => `node${host}:/srv/1/${volume}`))
  await gluster('start', volume)
  await runOn(cluster, 1, `mkdir /srv/${volume}; mount -t glusterfs node1:/${volume} /srv/${volume}; cd /srv/${volume}; mkdir $(seq ${directories})
    for d in $(seq ${directories}); do for f in $(seq ${files}); do head -c 100000 /dev/urandom > $d/$f; done; done`)
  if (!slow) return
  await gluster('stop', volume)
  for (const [option, value] of Object.entries(slowly)) await gluster('set', volume, option, value)
  await gluster('start', volume)
}
