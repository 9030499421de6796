import { readFile } from 'node:fs/promises'
import { SocketAddress } from 'node:net'

interface Connection {
  localAddress?: string | undefined
  localPort?: number | undefined
  remoteAddress?: string | undefined
  remotePort?: number | undefined
}

/**
 * Looks at the TCP connections of this network namespace. Tells of each how often in a row the kernel has sent again
 * what the peer leaves unanswered: 0 while it answers.
 *
 * Node tells nothing of this, and cannot set TCP_USER_TIMEOUT: the kernel gives a peer that has vanished up by itself
 * after a quarter of an hour. The source is /proc/net/tcp, see proc(5) and tcp_ipv4.c of the kernel.
 */
export async function lookForUnanswered (): Promise<(connection: Connection) => number> {
  const unanswered = new Map<string, number>()
  for (const file of ['/proc/net/tcp', '/proc/net/tcp6']) {
    // a kernel without IPv6 has no tcp6
    const text = await readFile(file, 'latin1').catch(() => '')
    // in any state but listening, with a timer for retransmission (01) or for the probe of a closed window (04)
    for (const [, local = '', remote = '', timer, retransmits = '', probes = ''] of text.matchAll(/^ *\d+: (\S+) (\S+) 0[^A] \S+ (01|04):\S+ (\S+) +\d+ +(\d+) /gm)) {
      const times = timer === '01' ? parseInt(retransmits, 16) : Number(probes)
      if (times > 0) unanswered.set(`${addressOf(local)} ${addressOf(remote)}`, times)
    }
  }
  return connection => unanswered.size === 0 ? 0 : unanswered.get(keyOf(connection)) ?? 0
}

function keyOf ({ localAddress = '', localPort = 0, remoteAddress = '', remotePort = 0 }: Connection): string {
  const plain = (address: string) => address.split('%', 1)[0] ?? ''
  return `${plain(localAddress)} ${localPort} ${plain(remoteAddress)} ${remotePort}`
}

/** `0100007F:1D38` as "127.0.0.1 7480": words of four bytes, each in the order of this machine, which is little-endian. */
function addressOf (hex: string): string {
  const [address = '', port = ''] = hex.split(':')
  const bytes = (address.match(/.{8}/g) ?? []).flatMap(word => [...Buffer.from(word, 'hex')].reverse())
  const text = bytes.length === 4
    ? bytes.join('.')
    : new SocketAddress({ family: 'ipv6', address: Buffer.from(bytes).toString('hex').replaceAll(/(.{4})(?!$)/g, '$1:') }).address
  return `${text} ${parseInt(port, 16)}`
}
