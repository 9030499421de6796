import type { Command } from 'commander'
import { findImage, nameOf } from './address.ts'
import { allocationOption, clusterSizeOption, formatOption, type Allocation, type ClusterSize, type Format } from './copy.ts'
import { readDomains } from './every-domain.ts'
import { exit } from './exit.ts'
import { commandOf } from './fixes.ts'
import type { Session } from './session.ts'
import { submit, withTaskOptions, type SubmitOptions } from './submit.ts'
import { formatBytes, parseBytes } from './units.ts'
import { percentOf } from '../client/progress.ts'

interface CreateOptions extends SubmitOptions {
  format?: Format
  allocation?: Allocation
  clusterSize?: ClusterSize
}

/** `create`, `delete`, `images` and `status`. */
export function addImages (program: Command, session: Session): void {
  withTaskOptions(program.command('create')
    .description('create an empty image')
    .argument('<image>', 'what it is to be called')
    .argument('<size>', 'how large the disk is: 10G', parseBytes)
    .addOption(formatOption('--format', 'the image'))
    .addOption(allocationOption())
    .addOption(clusterSizeOption()))
    .addHelpText('after', `
Examples:
  vdsm-tasks create local/disk.qcow2 10G
  vdsm-tasks create local/disk.raw 512M --allocation preallocated`)
    .action(async (image: string, virtualSize: number, { format, allocation, clusterSize, ...task }: CreateOptions) => {
      const address = await findImage(session, image)
      await submit(session, { kind: 'storage.createImage', ...address, virtualSize, ...(format !== undefined && { format }), ...(allocation !== undefined && { allocation }), ...(clusterSize !== undefined && { clusterSize }) }, task)
    })

  withTaskOptions(program.command('delete')
    .description('delete an image, also an unfinished copy')
    .argument('<image>', 'the image'))
    .addHelpText('after', `
Example:
  vdsm-tasks delete local/copy.qcow2`)
    .action(async (image: string, task: SubmitOptions) => {
      await submit(session, { kind: 'storage.deleteImage', ...await findImage(session, image) }, task)
    })

  withTaskOptions(program.command('forget')
    .description('remove the copy record of an image, and leave the image as it is')
    .argument('<image>', 'the image'))
    .addHelpText('after', `
Example:
  vdsm-tasks forget local/copy.qcow2`)
    .action(async (image: string, task: SubmitOptions) => {
      await submit(session, { kind: 'storage.forgetCopy', ...await findImage(session, image) }, task)
    })

  program.command('images')
    .description('list the images of a domain, or of all')
    .argument('[domain]', 'the domain')
    .addHelpText('after', `
Examples:
  vdsm-tasks images
  vdsm-tasks images local --json | jq -r '.items[].image'`)
    .action(async (domain?: string) => { await listImages(session, domain) })

  program.command('status')
    .description('tell the state of an image, from the storage alone')
    .argument('<image>', 'the image')
    .addOption(formatOption('--format', 'the image'))
    .addHelpText('after', `
Examples:
  vdsm-tasks status local/copy.qcow2
  vdsm-tasks status local/copy.qcow2 --json | jq -r .state`)
    .action(async (image: string, options: { format?: Format }) => { await tellStatus(session, image, options) })
}

async function listImages (session: Session, only: string | undefined): Promise<void> {
  const { client, json, out } = session
  const found = await readDomains(session, only, async domain => {
    const items = []
    for await (const entry of client.images(domain)) items.push({ domain, ...entry })
    return items
  })
  if (json) return out.document(found)
  if (found.items.length === 0) return session.say('There are no images.')
  out.table(['image', 'format', 'size', 'on storage', 'modified'], found.items.map(entry =>
    [nameOf(entry), entry.format ?? '-', formatBytes(entry.fileSize), formatBytes(entry.actualSize), entry.modifiedAt]))
}

async function tellStatus (session: Session, text: string, options: { format?: Format }): Promise<void> {
  const { client, json, out } = session
  const { domain, image, volume } = await findImage(session, text)
  const status = await client.imageStatus(domain, image, options)
  const named = volume === undefined ? undefined : status.volumes?.find(one => one.volume === volume)
  if (volume !== undefined && named === undefined) {
    session.say(`Image ${domain}/${image} has no volume ${volume}. Its volumes: ${status.volumes?.map(one => one.volume).join(', ') ?? 'none'}.`)
    session.status = exit.failed
    return
  }
  if (json) return out.document(named ?? status)
  const { state, detail, copy, fixes } = named ?? status
  const { format, virtualSize, actualSize } = named === undefined ? status : { format: named.info?.format, virtualSize: named.info?.capacity, actualSize: named.info?.truesize }
  out.fields([
    ['image', nameOf({ domain, image, volume })],
    ['state', state],
    ['why', detail],
    ...(status.warnings ?? []).map(words => ['warning', words] as const),
    ['format', format],
    ['size', virtualSize === undefined ? undefined : formatBytes(virtualSize)],
    ['on storage', actualSize === undefined ? undefined : formatBytes(actualSize)],
    ['copy of', copy?.source === undefined ? undefined : nameOf(copy.source)],
    ['copied', copy === undefined ? undefined : `${percentOf(copy.bytesDone, copy.bytesTotal)} %, ${formatBytes(copy.bytesDone)} of ${formatBytes(copy.bytesTotal)}`],
    ['by', copy === undefined ? undefined : `host ${copy.host.id}${copy.taskId === undefined ? '' : `, task ${copy.taskId}`}, run ${copy.epoch}`],
    ['verified', copy?.verified === true ? 'yes' : undefined],
    ...fixes.map(fix => ['what helps', `${session.hint(commandOf(fix))}: ${fix.description}`] as const),
    ['observed', status.observedAt]
  ])
  if (named !== undefined || status.volumes === undefined) return
  out.table(['volume', 'state', 'format', 'size', 'on storage', 'generation', 'based on'], status.volumes.map(({ volume, state, info }) => [
    volume, state, info?.format ?? '-', info === undefined ? '-' : formatBytes(info.capacity), info === undefined ? '-' : formatBytes(info.truesize),
    info === undefined ? '-' : String(info.generation), info === undefined || /^[0-]+$/.test(info.parent) ? '-' : info.parent
  ]))
}
