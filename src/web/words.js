// What the page says, in the words of the command line.
import { workOf } from '../client/progress.ts'

const units = ['', 'K', 'M', 'G', 'T', 'P']

/** As people read it: `12.3 MiB`. */
export function size (bytes) {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1)
  const value = bytes / 1024 ** power
  return `${value.toFixed(power === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1)} ${units[power]}${power === 0 ? 'B' : 'iB'}`
}

/** As people read it: `11 s`, `2 min 5 s`, `3 h 4 min`. */
export function seconds (number) {
  const whole = Math.round(number)
  if (whole < 60) return `${whole} s`
  const [large, small] = whole < 3600 ? [[60, 'min'], [1, 's']] : [[3600, 'h'], [60, 'min']]
  const rest = Math.floor(whole % large[0] / small[0])
  return `${Math.floor(whole / large[0])} ${large[1]}${rest === 0 ? '' : ` ${rest} ${small[1]}`}`
}

/** The time of day, with the day when it is not today. */
export function clock (time) {
  const date = new Date(time)
  const day = date.toDateString() === new Date().toDateString() ? '' : `${date.toLocaleDateString()} `
  return day + date.toLocaleTimeString()
}

const verbs = {
  'storage.copyImage': 'Copy',
  'storage.mendImage': 'Continue',
  'storage.createImage': 'Create',
  'storage.deleteImage': 'Delete',
  'storage.forgetCopy': 'Forget the copy record of',
  'storage.verifyImage': 'Compare',
  'gluster.startVolumeRebalance': 'Start the rebalance of',
  'gluster.stopVolumeRebalance': 'Stop the rebalance of',
  'gluster.startRemoveBrick': 'Start to remove bricks of',
  'gluster.stopRemoveBrick': 'Stop to remove bricks of',
  'gluster.commitRemoveBrick': 'Remove the emptied bricks of',
  'gluster.replaceBrick': 'Replace a brick of',
  'gluster.resetBrick': 'Reset a brick of'
}

const imageName = ({ domain, image, volume }) => volume === undefined ? `${domain}/${image}` : `${domain}/${image}/${volume}`

/** What a task is to do. */
export function what (spec) {
  const verb = verbs[spec.kind] ?? spec.kind
  if (spec.target !== undefined) return `${verb} ${imageName(spec.source)} to ${imageName(spec.target)}`
  if (spec.against !== undefined) return `${verb} ${imageName(spec)} with ${imageName(spec.against)}`
  return `${verb} ${spec.image === undefined ? `volume ${spec.volume}` : imageName(spec)}`
}

/** How far a running task is. */
export function numbers (progress) {
  const { phase, queuePosition, bytesTotal, bytesPerSecond, etaSeconds, bandwidth, stalledSince } = progress
  const work = workOf(progress)
  if (phase === 'queued') return queuePosition === undefined ? 'Waits for its turn' : `Waits for its turn, number ${queuePosition}`
  return [
    phase === 'verifying' && 'comparing',
    work !== undefined && `${size(work.done)} of ${size(work.total)}`,
    bytesTotal !== undefined && work?.total !== bytesTotal && `disk of ${size(bytesTotal)}`,
    stalledSince === undefined && bytesPerSecond !== undefined && `${size(bytesPerSecond)}/s`,
    bandwidth !== undefined && `limit ${size(bandwidth)}/s`,
    stalledSince === undefined && etaSeconds !== undefined && `${seconds(etaSeconds)} left`
  ].filter(part => part !== false).join(' · ')
}

/** What came of a finished task, unless it is a problem. */
export function outcome ({ spec, state, result }) {
  if (state === 'canceled') return spec.target !== undefined || spec.kind === 'storage.mendImage' ? 'Canceled. What is copied stays: the image can be continued.' : 'Canceled.'
  if (result === undefined) return ''
  if ('bytesMoved' in result) {
    const without = notCopied(result.dropped)
    if (result.alreadyDone) return `Was complete before.${without}`
    const verified = result.verified ? ', identical to its source' : ''
    if (result.cloned) return `Complete, ${size(result.bytesTotal)}${verified}; the file system shares its data with the source.${without}`
    return `Complete, ${size(result.bytesTotal)}${verified}; ${size(result.bytesMoved)} moved${result.epoch > 1 ? `, in ${result.epoch} runs` : ''}.${without}`
  }
  if ('identical' in result) return result.identical ? 'They are identical.' : `They differ, first at byte ${result.firstDifference ?? '?'}.`
  if ('forgotten' in result) return result.forgotten ? 'The record is removed; the image is as it was.' : 'There was no record.'
  if ('bytesFreed' in result) return `${size(result.bytesFreed)} freed.`
  if ('virtualSize' in result) return `Created, ${size(result.virtualSize)}.`
  if ('healed' in result) return result.healed ? `${result.brick} is healed, ${result.files ?? 0} files.` : `${result.brick} is out of service.`
  if (result.operationId !== undefined) return `${result.alreadyStarted ? 'Was started before, as' : 'Is'} operation ${result.operationId}.`
  return 'Done.'
}

/** What the source has and the copy does not. */
function notCopied (dropped) {
  if (dropped === undefined) return ''
  const { snapshots, bitmaps, more = 0 } = dropped
  const parts = [
    snapshots.length > 0 && `internal snapshots ${snapshots.join(', ')}`,
    bitmaps.length > 0 && `bitmaps ${bitmaps.join(', ')}`,
    more > 0 && `${more} more`
  ]
  return ` Not copied: ${parts.filter(part => part !== false).join('; ')}.`
}

/** The agent speaks to programs; whoever looks at the page is told of its fields and buttons. */
export function inThePage (detail) {
  return detail
    // the numbers above it say when and by whom
    .replace(/^The copy by task \S+ on host \S+ was interrupted \([^)]*\)\. (?=The copy )/, '')
    .replace(/Give "format": "raw" or "qcow2"/, 'Choose its format below More')
    .replace(/say "onExisting": "replace"/, 'tick Replace below More')
    .replace(/say "ignoreSpace": true/, 'tick Begin also when the space looks too small, below More,')
    .replace(/Leave out "refuseLoss"/, 'Untick Refuse what would lose internal snapshots or bitmaps')
    .replace(/ GET \/\S+ (lists|tells)[^.]*\./, '')
    .replace(/, or reuse this one with If-Match: "\S+"/, '')
    .replace(/\bmendImage\b/g, 'Continue')
    .replace(/\bdeleteImage\b/g, 'Delete')
    .replace(/\bforgetCopy\b/g, 'Forget record')
}
