import { readFileSync, readdirSync } from 'node:fs'
import { parseAnswer, type Answer } from '../../src/gluster/answers.ts'

const folder = new URL('../fixtures/gluster/', import.meta.url)

/** What gluster printed when it was asked for real. */
export function outputOf (name: string): string {
  return readFileSync(new URL(`${name}.xml`, folder), 'utf8')
}

export function answerOf (name: string): Answer {
  return parseAnswer(outputOf(name))
}

/** The command line of a capture, from the word `volume`, `peer` or `pool` on. */
export function commandOf (name: string): string {
  const line = readFileSync(new URL(`${name}.rc`, folder), 'utf8')
  return /\b(volume|peer|pool) .*/.exec(line)?.[0].replace(/ ?--xml/, '').trim() ?? ''
}

export const captures = readdirSync(folder).filter(file => file.endsWith('.xml')).map(file => file.slice(0, -4)).sort()
