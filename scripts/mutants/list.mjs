import { readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Mistakes that somebody could make, each with the tests that must notice. The text files here hold them:
 *
 *     # the file
 *     > a test that must notice what follows, in this order
 *
 *     ## what is wrong then
 *     > a test for this one alone, instead
 *     ? why no test can notice it
 *     -text that is there once; it may be a part of a line, or several lines
 *     +what it becomes, or nothing
 */
export const mutants = readdirSync(import.meta.dirname).filter(name => name.endsWith('.txt')).sort().flatMap(read)

function read (name) {
  const found = []
  let group
  let mutant
  for (const line of readFileSync(join(import.meta.dirname, name), 'utf8').split('\n')) {
    const [, mark, text] = /^(##?|[>?]) (.*)$/.exec(line) ?? []
    if (mark === '#') {
      group = { file: text, tests: [] }
      mutant = undefined
    } else if (mark === '##') {
      mutant = { name: text, own: [], search: [], replace: [] }
      found.push({ group, mutant })
    } else if (mark === '>') (mutant?.own ?? group.tests).push(text)
    else if (mark === '?') mutant.why = text
    else if (line.startsWith('-')) mutant.search.push(line.slice(1))
    else if (line.startsWith('+')) mutant.replace.push(line.slice(1))
    else if (line !== '' && group !== undefined) throw new Error(`${name}: what is this? ${line}`)
  }
  return found.map(({ group: { file, tests }, mutant: { name, why, own, search, replace } }) =>
    ({ file, name, why, tests: own.length > 0 ? own : tests, search: search.join('\n'), replace: replace.join('\n') }))
}
