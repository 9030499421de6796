// Lets a test, and whatever it forks, import the sources as they are: types are taken off by hooks.mjs, once for each state of
// a file. tap's own loader compiles every file in every process again, which took two to four seconds of processor time each.
import { register } from 'node:module'

// Only tap's own loaders see what is covered: npm test -- --no-disable-coverage
if (process.env._TAPJS_PROCESSINFO_COVERAGE_ !== '1') {
  register('./hooks.mjs', import.meta.url)
  // no line has moved, and the maps of every package would be read
  process.setSourceMapsEnabled(false)
  // for those that a test forks; what it spawns is the program as it is installed
  process.execArgv = [`--import=${import.meta.url}`]
  delete process.env.NODE_OPTIONS
}
