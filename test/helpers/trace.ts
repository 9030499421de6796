import { basename, dirname } from 'node:path'
import { intersect, total, type Ranges } from '../../src/storage/ranges.ts'
import { runLogged } from './strace.ts'

/** What a program and those that it starts do to files, as strace is asked to tell it. */
const calls = [
  'execve', 'clone', 'clone3', 'openat', 'write', 'pwrite64', 'pwritev', 'fallocate', 'ftruncate',
  'fsync', 'fdatasync', 'rename', 'link', 'unlink', 'mkdir', 'rmdir'
]

/**
 * One thing that was done to a domain, from the line where it began to the line where it had ended. Steps overlap: one
 * comes after another only if it began when that had ended.
 */
export interface Step {
  /**
   * What was done, to what: `fdatasync data`, `link parts/data -> root/target.raw`, `record target.raw copying`, `window`.
   * Rules go by this. `data` is the file that a copy is written to, whatever its name is at that time.
   */
  what: string
  begin: number
  /** Infinity, if it never came to its end. */
  end: number
  /** Of a small file that was replaced: what it became. */
  content?: string
  /** Of a window or a write into the data: the bytes. */
  range?: [start: number, end: number]
  /** Of a window: whose copy it is of, as the last record before it says. */
  key?: string
  /** Of a record: what it says. */
  record?: RecordSteps
}

/** What rules go by in a copy record. */
export interface RecordSteps { phase: string, epoch: number, virtualSize: number, inode?: string, done: Ranges, begun: Ranges }

interface Line { pid: string, name: string, args: string, result: string, begin: number, end: number }

/** Runs a program under strace to its end and tells its steps in the domain at `root`, in the order in which they began. */
export async function traceOf (argv: readonly string[], root: string): Promise<Step[]> {
  const { status, signal, log } = await runLogged(argv, ['-q', '-y', '-s', '100000', '-e', `trace=${calls.join(',')}`])
  if (status !== 0) throw new Error(`${argv.join(' ')} ended with ${status ?? signal}`)
  return stepsOf(log, root)
}

/** The steps of a log of strace. */
export function stepsOf (log: string, root: string): Step[] {
  return withReplacements(new Reader(root).read(log))
}

class Reader {
  readonly #root: string
  readonly #steps: Step[] = []
  /** The threads of the main process. */
  #threads: ReadonlySet<string> = new Set()
  /** What the descriptors of the main process are, by number. */
  readonly #paths = new Map<string, string>()
  /** What the processes that copy a window have begun, by their number. */
  readonly #windows = new Map<string, Step>()

  constructor (root: string) {
    this.#root = root
  }

  read (log: string): Step[] {
    const lines = linesOf(log)
    this.#threads = mainThreads(lines)
    for (const line of lines) {
      if (line.name === 'exit') this.#end(line)
      else if (!line.result.startsWith('-1')) this.#step(line)
    }
    return this.#steps.sort((a, b) => a.begin - b.begin)
  }

  #end ({ pid, begin }: Line): void {
    const window = this.#windows.get(pid)
    if (window !== undefined) window.end = begin
  }

  #step ({ pid, name, args, result, begin, end }: Line): void {
    const isMain = this.#threads.has(pid)
    const add = (what: string, more: Partial<Step> = {}) => { this.#steps.push({ what, begin, end, ...more }) }
    const [first = '', second = ''] = this.#names(args)
    // what qemu-img does is one step: its own flushes prove nothing, and it changes no names
    switch (name) {
      case 'execve': {
        const [, offset, size] = /^"[^"]*\/qemu-img", .*"convert", "-n", "-W",.*\\"offset\\":(\d+),\\"size\\":(\d+)/.exec(args) ?? []
        if (offset === undefined || size === undefined) break
        const window: Step = { what: 'window', begin, end: Infinity, range: [Number(offset), Number(offset) + Number(size)] }
        this.#windows.set(pid, window)
        this.#steps.push(window)
        break
      }
      case 'openat': {
        const [, fd = '', path = ''] = /^(\d+)<(.*?)>/.exec(result) ?? []
        if (isMain) this.#paths.set(fd, path)
        if (isMain && /O_CREAT/.test(args) && this.#isInside(path)) add(`create ${this.#nameOf(path)}`)
        break
      }
      case 'write': case 'pwrite64': case 'pwritev': case 'fallocate': {
        const path = pathOfFd(args)
        if (!this.#isInside(path)) break
        if (isMain) add(`write ${this.#openNameOf(path)}`, { content: stringIn(args) })
        else if (name !== 'write') add(`copy into ${this.#openNameOf(path)}`, { range: rangeOf(name, args, result) })
        break
      }
      case 'fsync': case 'fdatasync': case 'ftruncate':
        if (isMain && this.#isInside(pathOfFd(args))) add(`${name} ${this.#openNameOf(pathOfFd(args))}`)
        break
      case 'rename': case 'link':
        if (isMain) add(`${name} ${this.#nameOf(first)} -> ${this.#nameOf(second)}`)
        break
      case 'unlink': case 'mkdir': case 'rmdir':
        if (isMain) add(`${name} ${this.#nameOf(first)}`)
    }
  }

  /** The paths that a call names, through the descriptors that they begin with. */
  #names (args: string): string[] {
    return [...args.matchAll(/"(\/proc\/self\/fd\/(\d+)\/([^"]+))"/g)].map(([, , fd = '', rest = '']) => `${this.#paths.get(fd) ?? '?'}/${rest}`)
  }

  #isInside (path: string): boolean {
    return path === this.#root || path.startsWith(`${this.#root}/`)
  }

  /** Parts have random names; there is one at a time. */
  #nameOf (path: string): string {
    const relative = path.slice(this.#root.length + 1)
    if (relative === '') return 'root'
    const [, part] = /^\.vdsm-tasks\/parts\/(.+)/.exec(relative) ?? []
    if (part !== undefined) return /^[0-9a-f-]{36}$/.test(part) ? 'parts/data' : 'parts/lease'
    return /\/|^images$/.test(relative) ? relative.replace(/^\.vdsm-tasks\//, '') : `root/${relative}`
  }

  /** The same of what is open: an image's data keeps the name that it was opened by. */
  #openNameOf (path: string): string {
    const name = this.#nameOf(path)
    return name === 'parts/data' || /^images\/[^/]+\/[^./]+$/.test(name) ? 'data' : name
  }
}

/** A thread may be heard of before the call that makes it has ended. */
function mainThreads (lines: readonly Line[]): ReadonlySet<string> {
  const threads = new Set([lines[0]?.pid ?? ''])
  for (const { name, pid, args, result } of lines) if (/^clone/.test(name) && threads.has(pid) && args.includes('CLONE_THREAD')) threads.add(/^\d+/.exec(result)?.[0] ?? '')
  return threads
}

/** Joins what strace cuts in two where calls overlap. */
function linesOf (log: string): Line[] {
  const lines: Line[] = []
  const open = new Map<string, { text: string, begin: number }>()
  for (const [index, whole] of log.split('\n').entries()) {
    const [, pid = '', rest = ''] = /^(\d+) +(.*)$/.exec(whole) ?? []
    const begun = open.get(pid)
    const [, resumed] = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest) ?? []
    if (rest.startsWith('+++')) {
      lines.push({ pid, name: 'exit', args: '', result: '', begin: index, end: index })
    } else if (rest.endsWith('<unfinished ...>')) {
      open.set(pid, { text: rest.slice(0, -'<unfinished ...>'.length), begin: index })
    } else {
      const text = resumed === undefined ? rest : `${begun?.text ?? ''}${resumed}`
      const [, name = '', args = '', result = ''] = /^(\w+)\((.*?) *\) += (.*)$/.exec(text) ?? []
      if (name !== '') lines.push({ pid, name, args, result, begin: resumed === undefined ? index : begun?.begin ?? index, end: index })
    }
  }
  return lines
}

const pathOfFd = (args: string) => /^\d+<([^>]*)>/.exec(args)?.[1] ?? ''

/** What is written, if it is text. */
function stringIn (args: string): string {
  const [, text = ''] = /, "(.*)", \d+(?:, \d+)?$/.exec(args) ?? []
  // bytes that are no ASCII are octal
  const bytes = text.replaceAll(/\\([0-7]{1,3}|.)/g, (_, escaped: string) => /\d/.test(escaped) ? String.fromCharCode(Number.parseInt(escaped, 8)) : escaped === 'n' ? '\n' : escaped)
  return Buffer.from(bytes, 'latin1').toString()
}

function rangeOf (name: string, args: string, result: string): [number, number] {
  const numbers = args.split(', ').map(Number)
  const at = name === 'fallocate' ? numbers.at(-2) ?? 0 : numbers.at(-1) ?? 0
  const length = name === 'fallocate' ? numbers.at(-1) ?? 0 : Number.parseInt(result, 10)
  return [at, at + length]
}

/**
 * Adds a step for each small file that is replaced as a whole: from its rename to the flush of its directory. It is not
 * durable before that. Copy records are called by their phase, metadata of volumes by legality and generation.
 */
function withReplacements (steps: readonly Step[]): Step[] {
  const added = steps.flatMap((step, index): Step[] => {
    const [, from = '', to = ''] = /^rename (\S+\.new) -> (\S+)$/.exec(step.what) ?? []
    if (from === '') return []
    const content = steps.slice(0, index).findLast(({ what }) => what === `write ${from}`)?.content ?? ''
    const flush = steps.find(({ what, begin }) => begin > step.end && what === `fsync ${dirname(to)}`)
    return [{ begin: step.begin, end: flush?.end ?? Infinity, content, ...meaningOf(to, content, steps) }]
  })
  const all = [...steps, ...added].sort((a, b) => a.begin - b.begin)
  for (const [index, step] of all.entries()) {
    if (step.what !== 'window') continue
    const record = all.slice(0, index).findLast(({ what }) => /^record \S+ copying/.test(what))
    step.key = record?.what.split(' ')[1] ?? ''
  }
  return all
}

function meaningOf (file: string, content: string, steps: readonly Step[]): Pick<Step, 'what' | 'record'> {
  if (!file.startsWith('copies/')) {
    const value = (key: string) => new RegExp(`^${key}=(.*)$`, 'm').exec(content)?.[1] ?? '?'
    return { what: `metadata ${file} ${value('LEGALITY')} ${value('GEN')} ${value('VOLTYPE')}` }
  }
  const record: RecordSteps = JSON.parse(content)
  const counts = steps.some(({ what, range }) => what === 'window' && range !== undefined && total(intersect([range], record.done)) > 0)
  return { what: `record ${basename(file, '.json')} ${record.phase}${counts ? ' counting' : ''}`, record }
}
