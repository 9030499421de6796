import { javascriptOf, root } from './javascript.mjs'
import { bundledPackages } from './packages.mjs'

const bundled = bundledPackages()

/** What tap has every test process load, which takes longer than most tests: its own compiler, and what we do not use. */
const tapsLoader = /\/node_modules\/@tapjs\/(typescript|mock|processinfo)\/dist\/esm\/import\.mjs$/

/** Finds our own files without asking anybody, packages for them in one file each, and nothing in place of tap's loaders. */
export function resolve (specifier, context, next) {
  if (tapsLoader.test(specifier)) return { url: 'data:text/javascript,', shortCircuit: true }
  const bundle = isOurs(context.parentURL) ? bundled.get(specifier) : undefined
  if (bundle !== undefined) return { url: bundle, format: 'module', shortCircuit: true }
  if (!/^\.\.?\/.*\.ts$/.test(specifier) || !isOurs(context.parentURL)) return next(specifier, context)
  return { url: new URL(specifier, context.parentURL).href, format: 'module', shortCircuit: true }
}

/** Loads our own TypeScript. */
export async function load (url, context, next) {
  if (!isOurs(url) || !url.endsWith('.ts')) return next(url, context)
  return { format: 'module', source: await javascriptOf(url), shortCircuit: true }
}

function isOurs (url) {
  return url !== undefined && url.startsWith(root) && !url.startsWith(`${root}node_modules/`)
}
