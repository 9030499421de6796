/** The brick that a client volfile is to be reduced to: its parts as `volume info` tells them. */
export interface BrickAddress {
  host: string
  path: string
}

/**
 * Cuts the one client of a brick out of a volume's client volfile. A graph of just that client shows what is on this
 * brick, without distribution and replication, and from any host.
 *
 * Returns undefined unless exactly one client of the volfile leads to the brick.
 */
export function cutClient (volfile: string, brick: BrickAddress): string | undefined {
  const clients = sectionsOf(volfile).filter(section => leadsTo(section, brick))
  const [client] = clients
  return clients.length === 1 ? client : undefined
}

function sectionsOf (volfile: string): string[] {
  return volfile.match(/^volume .*$[^]*?^end-volume$/gm)?.map(section => `${section}\n`) ?? []
}

function leadsTo (section: string, { host, path }: BrickAddress): boolean {
  const lines = section.split('\n').map(line => line.trim())
  return lines.includes('type protocol/client') &&
    lines.includes(`option remote-host ${host}`) &&
    lines.includes(`option remote-subvolume ${path}`)
}
