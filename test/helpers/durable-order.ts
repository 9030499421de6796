import type { Test } from 'tap'
import { intersect, subtract, total, union, type Ranges } from '../../src/storage/ranges.ts'
import { broken, doctored, type Rule } from './order-rules.ts'
import { traceOf, type Step } from './trace.ts'

// The order of the steps of storage work, as rules: a new one is a new line.

type Rules = Readonly<Record<string, Rule>>

/** Whatever else changes a name: a change before is durable by then. */
export const next = '(rename|link|unlink|mkdir|rmdir|create (?!leases)).*'

/** Changes of names, in everything that is done. */
export const names: Rules = {
  'a file has its content before its name': { each: 'rename (\\S+\\.new) -> .*', after: 'fsync {1}', since: 'write {1}' },
  'a name that was given is durable before the next step': { each: '(?:(?:rename|link) .* -> |mkdir )(\\S+)/[^/]+', then: 'fsync {1}', until: next },
  // a temporary file that a crash has left means nothing, there or not
  'a name that was taken away is durable before the next step': { each: '(?:unlink|rmdir) (\\S+)/(?!\\S+\\.new(?: |$))[^/]+', then: 'fsync {1}', until: next }
}

/** Whether a record says that a window may be written. */
const isNamed = ({ range }: Step, { record }: Step) => range !== undefined && record !== undefined && isWithin([[range[0], Math.min(range[1], record.virtualSize)]], union(record.begun, record.done))
const isWithin = (ranges: Ranges, others: Ranges) => total(subtract(ranges, others)) === 0
/** Whether a record counts anything of a window as done. */
const isCounted = ({ record, what }: Step, { range, key }: Step) => range !== undefined && record !== undefined && what.startsWith(`record ${key} `) && total(intersect([range], record.done)) > 0

/** A copy, whatever its layout is. */
export const copy: Rules = {
  'a window is named in a durable record before it begins': { each: 'window', after: 'record \\S+ copying.*', is: isNamed },
  'a window is counted as done after a flush that began when it was whole': { each: 'record \\S+ copying counting', after: 'fdatasync data', since: isCounted },
  'everything is flushed before the end begins': { each: 'record \\S+ finishing.*', after: 'fdatasync data', since: 'window|(ftruncate|copy into) data' },
  'the end begins when every window is counted': { each: 'record (\\S+) finishing.*', after: 'record {1} copying counting', is: (_, { record }) => record !== undefined && total(record.done) === record.virtualSize }
}

/** In a raw target, the place in the file is that of the disk. */
export const inRaw: Rules = {
  'nothing is written that the record does not name': { each: 'copy into data', after: 'record \\S+ copying.*', is: isNamed }
}

/** A part that is made. */
export const part: Rules = {
  'a record is durable before the part is made': { each: 'create parts/data', after: 'record \\S+ creating' },
  'the part is durable before the record says that it can be written': { each: 'record \\S+ (?:copying|finishing).*', after: 'fsync data', since: 'create parts/data' },
  'the name of the part is durable before the record says so': { each: 'record \\S+ (?:copying|finishing).*', after: 'fsync parts', since: 'create parts/data' }
}

/** The end of a copy to a directory. */
export const finalName: Rules = {
  'the record says that the end has begun before the image gets its name': { each: '(?:link|rename) parts/data -> root/.*', after: 'record \\S+ finishing.*' },
  'the record says that the copy is done when its name is durable': { each: 'record \\S+ done', after: 'fsync root', since: '(link|rename) parts/data -> root/.*' },
  'the record says that the copy is done when nothing of it is left elsewhere': { each: 'record \\S+ done', after: 'fsync parts', since: '(unlink|rename) parts/data.*' }
}

/** A volume that is made, and looked for by others from its first step on. */
export const volume: Rules = {
  'the record knows the inode of the volume before that gets its name': { each: 'link parts/data -> images/.*', after: 'record \\S+ (creating|finishing)', is: (_, { record }) => record?.inode !== undefined },
  'the data is there before its metadata': { each: 'create images/(\\S+)/[^/]+\\.meta\\.new', after: 'fsync images/{1}', since: 'link parts/data -> images/{1}/[^/.]+' },
  'the metadata is there before the lease': { each: 'link parts/lease -> images/(\\S+)\\.lease', after: 'metadata images/{1}\\.meta .*' },
  'a lease is whole before it has its name': { each: 'link parts/lease -> .*', after: 'fsync parts/lease', since: 'create parts/lease' },
  'the part is the proof that the volume is ours until the lease is there': { each: 'unlink parts/data', after: 'link parts/lease -> images/.*' }
}

/** A volume that is written in place. */
export const inPlace: Rules = {
  'the volume is ILLEGAL before it is written': { each: 'window', after: 'metadata \\S+ ILLEGAL .*' },
  'the record says that the end has begun before the volume is LEGAL': { each: 'metadata images/([^/]+)/(\\S+)\\.meta LEGAL .* LEAF', after: 'record {1}\\.{2} finishing.*' },
  'the record says that the copy is done when the volume is LEGAL': { each: 'record ([^.]+)\\.(\\S+) done', after: 'metadata images/{1}/{2}\\.meta LEGAL .*' }
}

/** Traces work in a domain, and shows of every rule that it holds, and that it would not without the step that it asks for. */
export async function holdTo (t: Test, argv: readonly string[], root: string, ...rules: readonly Rules[]): Promise<void> {
  const steps = await traceOf(argv, root)
  const all: Rules = Object.assign({}, ...rules)
  t.strictSame(broken(all, steps), [])
  for (const [title, rule] of Object.entries(all)) {
    for (const [how, trace] of Object.entries(doctored(rule, steps))) t.not(broken({ [title]: rule }, trace).length, 0, `${title}: not ${how}`)
  }
}
