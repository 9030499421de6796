import type { Step } from './trace.ts'

/**
 * A rule about the order of steps: each step that `each` matches has another one before it, or after it. All patterns
 * are regular expressions for the whole name of a step; in the others, {1} is what the first group of `each` has matched.
 */
export interface Rule {
  each: string
  /** A step that has ended before that one begins, */
  after?: string
  /** and that began after the last one of these had ended, of which there must be one: it covers what they did. */
  since?: string | ((each: Step, other: Step) => boolean)
  /** A step that begins after that one has ended, */
  then?: string
  /** and ends before the next one of these begins. */
  until?: string
  /** What the step before must be besides. */
  is?: (each: Step, before: Step) => boolean
}

/** The rules that a trace breaks, each with the steps that break it. A rule for which there is no step is broken, too. */
export function broken (rules: Readonly<Record<string, Rule>>, steps: readonly Step[]): string[] {
  return Object.entries(rules).flatMap(([title, rule]) => {
    const subjects = steps.filter(step => matches(rule.each, step))
    if (subjects.length === 0) return [`${title}: there is no step ${rule.each}`]
    return subjects.filter(subject => !holds(rule, subject, steps)).map(({ what, begin }) => `${title}: not for "${what}" in line ${begin + 1}`)
  })
}

function holds (rule: Rule, subject: Step, steps: readonly Step[]): boolean {
  const groups = new RegExp(`^(?:${rule.each})$`).exec(subject.what) ?? []
  const pattern = (text: string) => text.replaceAll(/\{(\d)\}/g, (_, group: string) => groups[Number(group)] ?? '')
  const { after, since, then, until, is } = rule
  if (after !== undefined) {
    const isSince = (step: Step) => typeof since === 'string' ? matches(pattern(since), step) : since?.(subject, step) ?? false
    const covered = steps.filter(step => step !== subject && step.begin < subject.begin && isSince(step))
    if (since !== undefined && covered.length === 0) return false
    const from = Math.max(-1, ...covered.map(({ end }) => end))
    return steps.some(step => matches(pattern(after), step) && step.begin > from && step.end < subject.begin && (is?.(subject, step) ?? true))
  }
  const next = until === undefined ? undefined : steps.find(step => step.begin > subject.end && matches(pattern(until), step))
  return steps.some(step => matches(pattern(then ?? ''), step) && step.begin > subject.end && step.end < (next?.begin ?? Infinity))
}

function matches (pattern: string, { what }: Step): boolean {
  return new RegExp(`^(?:${pattern})$`).test(what)
}

/**
 * What a trace would be if the program did not do what a rule asks for: without the steps, with them too late, or too
 * early. The rule must see each of these.
 */
export function doctored (rule: Rule, steps: readonly Step[]): Record<string, Step[]> {
  const { each, after, since, then, until } = rule
  const isAsked = (step: Step) => steps.some(subject => {
    const groups = new RegExp(`^(?:${each})$`).exec(subject.what)
    const pattern = (after ?? then ?? '').replaceAll(/\{(\d)\}/g, (_, group: string) => groups?.[Number(group)] ?? '')
    return groups !== null && subject !== step && matches(pattern, step) && (rule.is?.(subject, step) ?? true)
  })
  const moved = (begin: number) => steps.map(step => isAsked(step) ? { ...step, begin, end: begin } : step).sort((a, b) => a.begin - b.begin)
  const last = Math.max(...steps.map(({ begin }) => begin))
  return {
    'without it': steps.filter(step => !isAsked(step)),
    ...(until !== undefined || after !== undefined ? { 'if it comes too late': moved(last + 1) } : {}),
    ...(since !== undefined || then !== undefined ? { 'if it comes too early': moved(-1) } : {})
  }
}
