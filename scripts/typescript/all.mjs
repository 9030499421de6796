// Takes the types off all sources and tests, in a second, before two hundred processes want a few of them each; and makes one
// file of each package.
import { readdirSync } from 'node:fs'
import { javascriptOf, root } from './javascript.mjs'
import { bundlePackages } from './packages.mjs'

await bundlePackages()

for (const folder of ['src', 'test']) {
  const names = readdirSync(new URL(folder, root), { recursive: true }).filter(name => name.endsWith('.ts') && !name.endsWith('.d.ts'))
  for (const name of names) await javascriptOf(`${root}${folder}/${name}`)
}
