// The text format of Prometheus, and the rules that `promtool check metrics` and the naming guide have for it:
// https://prometheus.io/docs/instrumenting/exposition_formats/ and https://prometheus.io/docs/practices/naming/

export interface Family {
  name: string
  help: string
  type: string
  samples: Array<{ name: string, labels: Record<string, string>, value: number }>
}

/** Reads the text. Throws for what is not of the format. */
export function readFamilies (text: string): Map<string, Family> {
  const families = new Map<string, Family>()
  let current: Family | undefined
  const seen = new Set<string>()
  for (const line of text.split('\n').filter(line => line !== '')) {
    const [, word, name = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line) ?? []
    if (word === 'HELP') {
      if (families.has(name)) throw new Error(`${name} is there twice`)
      current = { name, help: rest, type: '', samples: [] }
      families.set(name, current)
    } else if (word === 'TYPE') {
      if (current?.name !== name) throw new Error(`TYPE of ${name} without its HELP before it`)
      current.type = rest
    } else {
      const [, sample = '', , pairs = '', value = ''] = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(.*)\})? (\S+)$/.exec(line) ?? []
      if (current === undefined || !belongs(sample, current)) throw new Error(`a line of no family: ${line}`)
      if (seen.has(`${sample}{${pairs}}`)) throw new Error(`twice: ${line}`)
      seen.add(`${sample}{${pairs}}`)
      const number = value === '+Inf' ? Infinity : Number(value)
      if (value === '' || Number.isNaN(number) !== (value === 'NaN' || value === 'Nan')) throw new Error(`no number: ${line}`)
      current.samples.push({ name: sample, labels: Object.fromEntries([...pairs.matchAll(/([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"/g)].map(([, label = '', text = '']) => [label, text])), value: number })
    }
  }
  return families
}

function belongs (sample: string, { name, type }: Family): boolean {
  const parts = type === 'histogram' ? ['_bucket', '_sum', '_count'] : type === 'summary' ? ['', '_sum', '_count'] : ['']
  return parts.some(part => sample === name + part)
}

const notBaseUnits = /_(milliseconds|microseconds|nanoseconds|minutes|hours|days|kilobytes|megabytes|gigabytes|kib|mib|gib|ms|percent|bits)(_|$)/

/** What is against the rules; empty if nothing is. */
export function lint (families: Iterable<Family>): string[] {
  const complaints: string[] = []
  for (const { name, help, type, samples } of families) {
    const complain = (text: string) => { complaints.push(`${name}: ${text}`) }
    if (help.trim() === '') complain('no help text')
    if (!['counter', 'gauge', 'histogram', 'summary'].includes(type)) complain(`the type ${type} is none`)
    if ((type === 'counter') !== name.endsWith('_total')) complain('counters, and only they, end in _total')
    if (/_(count|sum|bucket)$/.test(name)) complain('the suffixes of histograms are not for names')
    if (/_(counter|gauge|histogram|summary)(_|$)/.test(name)) complain('the type is not for the name')
    if (/[A-Z]/.test(name)) complain('names are in snake case')
    if (notBaseUnits.test(name)) complain('units are base units: seconds, bytes, ratios')
    if (/_(seconds|bytes)_(?!total$)/.test(name) && name.startsWith('vdsm_tasks_')) complain('the unit comes last, or before _total')
    for (const { labels, value } of samples) {
      for (const label of Object.keys(labels)) {
        if (label === 'le' ? type !== 'histogram' : label === 'quantile' ? type !== 'summary' : !/^[a-z][a-z0-9_]*$/.test(label)) complain(`the label ${label}`)
      }
      if (type === 'counter' && !(value >= 0)) complain('a counter is never below zero')
    }
    if (type === 'histogram') for (const trouble of bucketTrouble(name, samples)) complain(trouble)
  }
  return complaints
}

/** Buckets grow, and the last one holds all. */
function bucketTrouble (name: string, samples: Family['samples']): string[] {
  const series = new Map<string, { buckets: Array<[number, number]>, count?: number }>()
  for (const { name: sample, labels: { le, ...labels }, value } of samples) {
    const key = JSON.stringify(Object.entries(labels).sort())
    const one = series.get(key) ?? { buckets: [] }
    series.set(key, one)
    if (sample === `${name}_bucket`) one.buckets.push([le === '+Inf' ? Infinity : Number(le), value])
    if (sample === `${name}_count`) one.count = value
  }
  return [...series].flatMap(([key, { buckets, count }]) => {
    const sorted = buckets.toSorted(([a], [b]) => a - b)
    const grows = sorted.every(([, value], index) => index === 0 || value >= (sorted[index - 1]?.[1] ?? 0))
    return [
      ...(sorted.at(-1)?.[0] === Infinity && sorted.at(-1)?.[1] === count ? [] : [`the last bucket of ${key} does not hold all`]),
      ...(grows ? [] : [`the buckets of ${key} do not grow`])
    ]
  })
}
