// Makes one file of each npm package that sources and tests import: a test process reads the hundreds of files of fastify,
// typebox and tap in half a second of processor time, and these in a tenth. Made once for each state of node_modules.
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root } from './javascript.mjs'

const cache = fileURLToPath(new URL('node_modules/.cache/packages/', root))
/** npm writes it last, at every installation. */
const installed = new URL('node_modules/.package-lock.json', root)
/** Those that look for files of their own, are native, or are loaded by one test each. */
const left = /^(@fastify\/swagger-ui|esbuild|eslint|koffi|openapi-typescript|pino-pretty|playwright-core|swagger-typescript-api)$/
/** CommonJS packages call this, and modules have none of their own. */
const banner = "import { createRequire as $createRequire } from 'node:module'; const require = $createRequire(import.meta.url);"

/** The URLs of these files, by what an import calls them. Empty before `bundlePackages`: then the packages are read. */
export function bundledPackages () {
  try {
    const { stamp, names } = JSON.parse(readFileSync(`${cache}index.json`, 'utf8'))
    if (stamp !== stampOf()) return new Map()
    return new Map(names.map(name => [name, new URL(`node_modules/.cache/packages/${stamp}/${flat(name)}.mjs`, root).href]))
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
    return new Map()
  }
}

/** Makes them, unless they were made of these packages and for these imports. */
export async function bundlePackages () {
  const names = importedPackages()
  const known = bundledPackages()
  if (names.length === known.size && names.every(name => known.has(name))) return
  const { build } = await import('esbuild')
  const stamp = stampOf()
  rmSync(cache, { recursive: true, force: true })
  const part = `${cache}${stamp}.${process.pid}`
  mkdirSync(part, { recursive: true })
  for (const name of names) {
    // a CommonJS package has no list of its exports but in Node
    const exported = Object.keys(await import(name)).filter(key => key !== 'default' && key !== 'module.exports')
    const lines = exported.map((key, index) => `const e${index} = all.${key}\nexport { e${index} as ${key} }\n`)
    mkdirSync(dirname(`${part}/${flat(name)}`), { recursive: true })
    writeFileSync(`${part}/${flat(name)}.in.mjs`, `import * as all from '${name}'\nexport default all.default\n${lines.join('')}`)
  }
  const entryPoints = Object.fromEntries(names.map(name => [flat(name), `${part}/${flat(name)}.in.mjs`]))
  await build({
    entryPoints, outdir: part, outExtension: { '.js': '.mjs' }, banner: { js: banner }, bundle: true, splitting: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'warning'
  })
  renameSync(part, `${cache}${stamp}`)
  writeFileSync(`${cache}index.json.${process.pid}`, JSON.stringify({ stamp, names }))
  renameSync(`${cache}index.json.${process.pid}`, `${cache}index.json`)
}

function stampOf () {
  const { mtimeMs, size } = statSync(installed)
  return `${Math.round(mtimeMs)}-${size}`
}

/** What sources and tests import that is neither ours nor Node's, and is more than types. */
function importedPackages () {
  const names = new Set()
  for (const folder of ['src', 'test']) {
    for (const file of readdirSync(new URL(folder, root), { recursive: true })) {
      if (!file.endsWith('.ts') || file.endsWith('.d.ts') || file.startsWith('web/')) continue
      for (const [, name] of readFileSync(new URL(`${folder}/${file}`, root), 'utf8').matchAll(/^import (?!type )[^'\n]* from '([^.'][^']*)'$/gm)) names.add(name)
    }
  }
  return [...names].filter(name => !name.startsWith('node:') && !left.test(name)).sort()
}

/** Without folders. But tap leaves out of stacks what is in one of its own. */
function flat (name) {
  return name === 'tap' ? 'node_modules/@tapjs/tap' : name.replaceAll('/', '+')
}
