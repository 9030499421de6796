// src -> dist. A build is prepared beside dist and moved into its place, so a failed one leaves the last good one standing.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, existsSync, readFileSync, readdirSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { root, say, StepError, unlessFresh } from './step.mjs'

const dist = join(root, 'dist')
const next = join(root, 'dist.next')
const last = join(root, 'dist.last')
const sources = ['src', 'scripts/build.mjs', 'package.json', 'tsconfig.json', 'tsconfig.build.json']
const executables = ['main.js', 'cli/main.js']
const bundles = ['serve.js', 'storage/domain/main.js', 'storage/copy/main.js', 'storage/discover/main.js', 'gluster/brick/main.js']
/** Not needed for every start, or native. */
const external = ['pino-pretty', '@fastify/swagger-ui', 'koffi']
/** CommonJS packages call this, and modules have none of their own. */
const bannerForCommonJs = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);"

/** Builds unless dist was made from exactly the files that are here now. */
export function buildUnlessFresh () {
  unlessFresh(isBuilt, build)
}

function isBuilt () {
  const stamp = join(dist, '.sources')
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === fingerprint()
}

function build (lockFd) {
  say('building dist')
  // Taken first: a file changed while tsc runs must make the next start build again.
  const stamp = fingerprint()
  rmSync(next, { recursive: true, force: true })
  const tsc = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.build.json'), '--outDir', next],
    { stdio: ['ignore', process.stderr.fd, process.stderr.fd, lockFd] })
  if (tsc.status !== 0) {
    rmSync(next, { recursive: true, force: true })
    throw new StepError('the build failed: see the messages of tsc above')
  }
  bundle()
  bundlePage()
  for (const file of files(join(root, 'src')).filter(notCompiled)) cpSync(join(root, 'src', file), join(next, file))
  for (const file of executables.filter(file => existsSync(join(next, file)))) chmodSync(join(next, file), 0o755)
  writeFileSync(join(next, '.sources'), stamp)
  // Two renames are not one atomic step (Node has no RENAME_EXCHANGE). Killed in between, dist is missing and the next start builds it.
  rmSync(last, { recursive: true, force: true })
  if (existsSync(dist)) renameSync(dist, last)
  renameSync(next, dist)
  rmSync(last, { recursive: true, force: true })
}

/**
 * Makes one file of the agent and one of each child process, with all that they import: reading a few hundred small
 * files took five times as long as this one, and every copy starts a child. The single files stay, for those who import
 * them: the client, its types, the benches.
 */
function bundle () {
  bundleFrom(next, next, 'js')
}

/** Makes the same files of a folder of sources, whose types are not looked at: in a second, for scripts/mutate.mjs. */
export function bundleSources (sources, outdir) {
  bundleFrom(sources, outdir, 'ts')
}

function bundleFrom (folder, outdir, extension) {
  // not before: without node_modules this script must still say what is wrong
  const { buildSync } = createRequire(import.meta.url)('esbuild')
  const options = {
    outdir,
    outbase: folder,
    external,
    allowOverwrite: true,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    minifyWhitespace: true,
    minifySyntax: true,
    sourcemap: 'linked',
    logLevel: 'warning',
    banner: { js: bannerForCommonJs }
  }
  for (const file of bundles) {
    const entry = join(folder, file.replace(/js$/, extension))
    const define = { PROGRAM_FOLDER: JSON.stringify(`${relative(dirname(entry), folder) || '.'}/`) }
    buildSync({ ...options, define, entryPoints: [entry] })
  }
}

/** Makes one module and one style sheet of the page, with the libraries in them: it runs without any network but the agent. */
function bundlePage () {
  const { buildSync } = createRequire(import.meta.url)('esbuild')
  const entryPoints = ['page.js', 'style.css'].map(file => join(root, 'src/web', file))
  buildSync({ entryPoints, outdir: join(next, 'web'), bundle: true, minify: true, format: 'esm', target: 'es2023', logLevel: 'warning' })
}

/** The page's documents, the launcher of programs, and hand-written or generated declarations, which tsc reads but does not emit. */
function notCompiled (file) {
  return file.endsWith('.d.ts') || file.endsWith('.pl') || /^web\/.*\.(html|svg)$/.test(file)
}

/** A hash over names and contents: git changes times without changing files, and a removed file changes no time that we would look at. */
function fingerprint () {
  const hash = createHash('sha256')
  for (const source of sources) {
    const path = join(root, source)
    if (!existsSync(path)) continue
    const inside = source === 'src' ? files(path).map(file => join(path, file)) : [path]
    for (const file of inside) hash.update(`${relative(root, file)}\0`).update(readFileSync(file)).update('\0')
  }
  return hash.digest('hex')
}

function files (folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => relative(folder, join(entry.parentPath ?? entry.path, entry.name)))
    .sort()
}

if (realpathSync(process.argv[1]) === import.meta.filename) {
  try {
    unlessFresh(() => false, build)
  } catch (err) {
    if (!(err instanceof StepError)) throw err
    say(err.message)
    process.exitCode = 1
  }
}
