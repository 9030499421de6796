import { elsewhere } from './elsewhere.mjs'
import { storage } from './storage.mjs'

/**
 * Mistakes that somebody could make, each with the tests that must notice it: text that is there once in a file, and what it
 * becomes. One that is not noticed has a reason, why no test can, or it gets a test.
 */
export const mutants = [...storage, ...elsewhere].flatMap(({ file, tests, mutants }) =>
  mutants.map(([name, search, replace, more = {}]) => ({ file, name, search, replace, tests: more.tests ?? tests, why: more.why })))
