import type { Command } from 'commander'
import { findImage, nameOf } from './address.ts'
import { allocationOption, clusterSizeOption, formatOption, type Allocation, type ClusterSize, type Format } from './copy.ts'
import type { Session } from './session.ts'
import { submit, withTaskOptions, type SubmitOptions } from './submit.ts'
import { formatBytes, parseBytes } from './units.ts'
import { percentOf } from './words.ts'

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
  const domains = only === undefined ? (await client.domains()).filter(({ state }) => state === 'available').map(({ domain }) => domain) : [only]
  const items = []
  for (const domain of domains) {
    for await (const entry of client.images(domain)) items.push({ domain, ...entry })
  }
  if (json) return out.document({ items })
  if (items.length === 0) return session.say('There are no images.')
  out.table(['image', 'format', 'size', 'on storage', 'modified'], items.map(entry =>
    [nameOf(entry), entry.format ?? '-', formatBytes(entry.fileSize), formatBytes(entry.actualSize), entry.modifiedAt]))
}

async function tellStatus (session: Session, text: string, options: { format?: Format }): Promise<void> {
  const { client, json, out } = session
  const { domain, image } = await findImage(session, text)
  const status = await client.imageStatus(domain, image, options)
  if (json) return out.document(status)
  const { state, detail, format, virtualSize, actualSize, copy, fixes, observedAt } = status
  out.fields([
    ['image', nameOf(status)],
    ['state', state],
    ['why', detail],
    ['format', format],
    ['size', virtualSize === undefined ? undefined : formatBytes(virtualSize)],
    ['on storage', formatBytes(actualSize)],
    ['copy of', copy?.source === undefined ? undefined : nameOf(copy.source)],
    ['copied', copy === undefined ? undefined : `${percentOf(copy.bytesDone, copy.bytesTotal)} %, ${formatBytes(copy.bytesDone)} of ${formatBytes(copy.bytesTotal)}`],
    ['by', copy === undefined ? undefined : `host ${copy.host.id}${copy.taskId === undefined ? '' : `, task ${copy.taskId}`}, run ${copy.epoch}`],
    ['verified', copy?.verified === true ? 'yes' : undefined],
    ...fixes.map(({ action, description }) => [action, description] as const),
    ['observed', observedAt]
  ])
}
