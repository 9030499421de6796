import { Option, type Command } from 'commander'
import { findImage } from './address.ts'
import type { TaskSpec } from '../client/types.ts'
import type { Session } from './session.ts'
import { newId, submit, withTaskOptions, type SubmitOptions } from './submit.ts'
import { formatBytes, parseBytes } from './units.ts'
import { notCopied } from './words.ts'

export type Format = 'raw' | 'qcow2'
export type Allocation = 'sparse' | 'preallocated'
export type ClusterSize = NonNullable<Extract<TaskSpec, { kind: 'storage.createImage' }>['clusterSize']>

interface CopyOptions extends SubmitOptions {
  format?: Format
  sourceFormat?: Format
  allocation?: Allocation
  clusterSize?: ClusterSize
  chain?: 'flat' | 'keep'
  bandwidth?: number
  verify?: boolean
  onExisting?: 'refuse' | 'replace'
  ignoreSpace?: boolean
  refuseLoss?: boolean
  dryRun?: boolean
}

/** The format of an image whose name does not tell it. */
export function formatOption (flags: string, which: string): Option {
  return new Option(`${flags} <format>`, `the format of ${which}, where its name does not tell`).choices(['raw', 'qcow2'])
}

export function allocationOption (): Option {
  return new Option('--allocation <allocation>', 'take up space as data is written, or all of it at the start').choices(['sparse', 'preallocated'])
}

export function clusterSizeOption (): Option {
  return new Option('--cluster-size <bytes>', 'of a qcow2 image, a power of two from 512 to 2M; 64K unless given').argParser(parseBytes)
}

export function bandwidthOption (): Option {
  return new Option('--bandwidth <bytes>', 'copy at most this many bytes per second: 100M, 1G').argParser(parseBytes)
}

export function addCopy (program: Command, session: Session): void {
  withTaskOptions(program.command('copy')
    .description('copy an image; sent again, or after a restart of the agent, an interrupted copy goes on where it was')
    .argument('<source>', 'the image to copy')
    .argument('<target>', 'what the copy is to be called')
    .addOption(formatOption('--format', 'the target'))
    .addOption(formatOption('--source-format', 'the source'))
    .addOption(allocationOption())
    .addOption(clusterSizeOption())
    .addOption(new Option('--chain <what>', 'of an oVirt image: one volume with the whole content, or every volume of its chain').choices(['flat', 'keep']))
    .addOption(bandwidthOption())
    .option('--verify', 'compare the copy with its source before it becomes visible')
    .addOption(new Option('--on-existing <what>', 'what to do when the target exists; it stays good until it is replaced').choices(['refuse', 'replace']))
    .option('--ignore-space', 'begin although the copy looks too large for the domain')
    .option('--refuse-loss', 'refuse what would drop internal snapshots or bitmaps of the source')
    .option('--dry-run', 'only tell what would happen: the sizes, and what may be wrong with the source'))
    .addHelpText('after', `
Ctrl-C asks whether to cancel the copy or to leave it to the agent; when nobody can be asked, it is left.

Examples:
  vdsm-tasks copy local/sample.raw local/copy.qcow2
  vdsm-tasks copy local/sample.raw shared/copy.raw --bandwidth 100M --verify --id nightly-42
  vdsm-tasks copy ./disk.img shared/disk.qcow2 --detach
  vdsm-tasks copy local/sample.raw local/copy.qcow2 --dry-run`)
    .action(async (source: string, target: string, options: CopyOptions) => {
      const { format, sourceFormat, allocation, clusterSize, chain, bandwidth, verify, onExisting, ...others } = options
      const { ignoreSpace, refuseLoss, dryRun, ...task } = others
      const [from, to] = await Promise.all([findImage(session, source), findImage(session, target)])
      const spec: TaskSpec = {
        kind: 'storage.copyImage',
        source: { ...from, ...(sourceFormat !== undefined && { format: sourceFormat }) },
        target: { ...to, ...(format !== undefined && { format }), ...(allocation !== undefined && { allocation }), ...(clusterSize !== undefined && { clusterSize }) },
        ...(chain !== undefined && { chain }),
        ...(bandwidth !== undefined && { bandwidth }),
        ...(verify !== undefined && { verify }),
        ...(onExisting !== undefined && { onExisting }),
        ...(ignoreSpace !== undefined && { ignoreSpace }),
        ...(refuseLoss !== undefined && { refuseLoss })
      }
      if (dryRun === true) await tellPlan(session, spec, task)
      else await submit(session, spec, task, { resend: true })
    })
}

/** What a copy would do. */
async function tellPlan (session: Session, spec: TaskSpec, { id = newId(spec.kind) }: SubmitOptions): Promise<void> {
  const { client, json, out } = session
  const preview = await client.previewTask(id, spec)
  if (json) return out.document(preview)
  const { task, plan = {} } = preview
  if (task !== undefined) return out.fields([['task', `${id} is there already: ${task.state}`]])
  const bytes = (count: number | undefined) => count === undefined ? undefined : formatBytes(count)
  out.fields([
    ['would', plan.outcome],
    ['disk', bytes(plan.bytesTotal)],
    ['copied', bytes(plan.bytesDone)],
    ['to move', bytes(plan.bytesToMove)],
    ['needs', bytes(plan.bytesNeeded)],
    ['free', bytes(plan.bytesFree)],
    ['reserved', bytes(plan.bytesReserved)],
    ['not copied', plan.dropped === undefined ? undefined : notCopied(plan.dropped)],
    ...(plan.warnings ?? []).map(words => ['warning', words] as const)
  ])
}
