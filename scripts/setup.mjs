// Brings a machine that has only Node and git to where `npm start` and `npm test` can run: programs, npm packages, build.
// Plain JavaScript without any package, because it runs before there are any. Does nothing, and says nothing, when all is there.
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { buildUnlessFresh } from './build.mjs'
import { root, say, StepError, unlessFresh } from './step.mjs'

/** What must be there (a program in PATH, or a file) and the Debian package that brings it. */
export const needs = {
  start: {
    'qemu-img': 'qemu-utils',
    perl: 'perl-base',
    setpriv: 'util-linux',
    flock: 'util-linux',
    prlimit: 'util-linux',
    fallocate: 'util-linux',
    'mkfs.ext4': 'e2fsprogs'
  },
  test: {
    gluster: 'glusterfs-cli',
    glusterd: 'glusterfs-server',
    'mount.glusterfs': 'glusterfs-client',
    getfattr: 'attr',
    ip: 'iproute2',
    'mkfs.xfs': 'xfsprogs',
    'mkfs.btrfs': 'btrfs-progs',
    strace: 'strace',
    bindfs: 'bindfs',
    bwrap: 'bubblewrap',
    sanlock: 'sanlock',
    gcc: 'gcc',
    '/usr/include/dlfcn.h': 'libc6-dev',
    chromium: 'chromium',
    'systemd-analyze': 'systemd',
    nginx: 'nginx',
    '/usr/lib/nginx/modules/ngx_nchan_module.so': 'libnginx-mod-nchan'
  }
}

/** Services that Debian starts at every boot once their package is installed. */
const services = { nginx: ['nginx'], 'glusterfs-server': ['glusterd'], sanlock: ['sanlock', 'wdmd'] }

if (realpathSync(process.argv[1]) === import.meta.filename) {
  const purpose = process.argv[2]
  const wanted = { start: [needs.start], test: [needs.start, needs.test] }[purpose]
  try {
    if (wanted === undefined) throw new StepError('usage: node scripts/setup.mjs start|test')
    await setUp(Object.assign({}, ...wanted))
    // Before the tests scripts/check.mjs builds, beside the other checks, so that a type error does not hide what they have to say.
    if (purpose === 'start') buildUnlessFresh()
  } catch (err) {
    if (!(err instanceof StepError)) throw err
    say(err.message)
    process.exitCode = 1
  }
}

/** Brings what is missing of these programs, and the npm packages. */
export async function setUp (packageOf) {
  checkNode()
  await installPrograms(packageOf)
  unlessFresh(packagesAreInstalled, installPackages)
}

function checkNode () {
  const [major, minor] = process.versions.node.split('.').map(Number)
  if (major > 20 || (major === 20 && minor >= 18)) return
  throw new StepError(`vdsm-tasks needs Node 20.18 or later; this is ${process.versions.node} (Debian 12 packages 18: take Node from nodejs.org)`)
}

async function installPrograms (packageOf) {
  const missing = Object.keys(packageOf).filter(need => !isThere(need))
  if (missing.length === 0) return
  const packages = [...new Set(missing.map(need => packageOf[need]))]
  if (!isThere('apt-get')) {
    throw new StepError(`missing here: ${missing.join(', ')} (in Debian they are in ${packages.join(', ')}). Install them, then run this again.`)
  }
  const asRoot = rootPrefix()
  if (asRoot === undefined) {
    throw new StepError(`missing here: ${missing.join(', ')}. Install them with this command, then run this again:\n\n  ` +
      `sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}'\n`)
  }
  say(`installing Debian packages: ${packages.join(', ')}`)
  const allow = holdServices(asRoot)
  try {
    // Fresh images come without package lists; old lists name versions that the mirror no longer has.
    const haveLists = existsSync('/var/lib/apt/lists') && readdirSync('/var/lib/apt/lists').some(name => /_Packages(\.|$)/.test(name))
    if (!haveLists) await apt(asRoot, 'update')
    const install = ['install', '-y', '--no-install-recommends', ...packages]
    await apt(asRoot, ...install).catch(async () => {
      await apt(asRoot, 'update')
      await apt(asRoot, ...install)
    })
  } finally {
    allow()
  }
  disableServices(asRoot, packages)
  const stillMissing = missing.filter(need => !isThere(need))
  if (stillMissing.length > 0) throw new StepError(`still missing after apt-get succeeded: ${stillMissing.join(', ')}`)
}

function isThere (need) {
  // A user's PATH often lacks the folders of the system's programs.
  const folders = [...(process.env.PATH ?? '').split(delimiter).filter(isAbsolute), '/usr/sbin', '/sbin']
  return (isAbsolute(need) ? [need] : folders.map(folder => join(folder, need))).some(path => {
    try {
      accessSync(path, isAbsolute(need) ? constants.R_OK : constants.X_OK)
      return true
    } catch {
      return false // Absent or not for us: the same to the caller, who looks in the next folder.
    }
  })
}

/** What to put before a command so that it runs as root without asking, or undefined. */
function rootPrefix () {
  if (process.getuid() === 0) return []
  const sudo = ['sudo', '-n']
  return spawnSync(sudo[0], [...sudo.slice(1), 'true'], { stdio: 'ignore' }).status === 0 ? sudo : undefined
}

async function apt (asRoot, ...args) {
  const argv = [...asRoot, 'env', 'DEBIAN_FRONTEND=noninteractive', 'apt-get', '-q', '-o', 'DPkg::Lock::Timeout=120', ...args]
  const giveUpAt = Date.now() + 120_000
  for (;;) {
    const { status, error, stdout, stderr } = spawnSync(argv[0], argv.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], encoding: 'utf8', maxBuffer: 64 << 20 })
    if (status === 0) return
    // The timeout above is for dpkg's lock only: apt-get fails at once when another one (apt-daily after boot) updates the lists.
    const locked = /^E: (Could not get lock|Unable to lock directory)/m.test(stderr ?? '')
    if (!locked || Date.now() > giveUpAt) {
      throw new StepError(`apt-get ${args[0]} failed${error ? `: ${error.message}` : ''}\n${(stdout ?? '').slice(-2000)}${stderr ?? ''}`)
    }
    await sleep(2000)
  }
}

/**
 * Keeps Debian from starting services that come with the packages; gives back the function that ends this.
 *
 * Debian asks /usr/sbin/policy-rc.d (101 = no) before a package may start a service. One that exists is its owner's decision and stays
 * as it is. Ours still lets an upgrade restart what runs. Left behind by a kill, it removes itself when it is asked next.
 */
function holdServices (asRoot) {
  const policy = '/usr/sbin/policy-rc.d'
  const mark = '# vdsm-tasks setup: start no services while it installs packages.'
  if (existsSync(policy) && readFileSync(policy, 'utf8').includes(mark)) asRootSync(asRoot, ['rm', '-f', policy])
  if (existsSync(policy)) return () => {}
  // The action may be "start", or "(start)" outside of the service's runlevel.
  const script = `#!/bin/sh
${mark}
[ -e /proc/${process.pid} ] || { rm -f "$0"; exit 0; }
case "$*" in
  *restart*) exit 0;;
  *start*) exit 101;;
esac
`
  // noclobber opens with O_EXCL: a policy made since we looked stays, too.
  const made = asRootSync(asRoot, ['sh', '-c', `set -C; umask 022; cat > ${policy} && chmod 755 ${policy}`], script)
  // Without a listener an interrupt would end us at once. With one we go on when apt-get has ended of it, and clean up.
  const interrupted = () => {}
  process.on('SIGINT', interrupted)
  return () => {
    process.off('SIGINT', interrupted)
    if (made) asRootSync(asRoot, ['rm', '-f', policy])
  }
}

/** Nobody has asked for these services at boot either: their packages are new here, and we want only their programs. */
function disableServices (asRoot, packages) {
  const names = packages.flatMap(name => services[name] ?? [])
  if (names.length > 0 && isThere('systemctl')) asRootSync(asRoot, ['systemctl', '--quiet', 'disable', ...names])
}

function asRootSync (asRoot, command, input = '') {
  const argv = [...asRoot, ...command]
  return spawnSync(argv[0], argv.slice(1), { input, stdio: ['pipe', 'ignore', 'ignore'] }).status === 0
}

/**
 * Compares package-lock.json with npm's own record of what it installed, which npm writes last: an interrupted install has none, and
 * a developer's `npm install` counts. Packages for other platforms are optional and absent.
 */
function packagesAreInstalled () {
  const record = join(root, 'node_modules/.package-lock.json')
  if (!existsSync(record)) return false
  const installed = JSON.parse(readFileSync(record, 'utf8')).packages
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
  return Object.entries(locked).every(([path, { version, integrity, optional, devOptional }]) =>
    path === '' || (path in installed
      ? installed[path].version === version && installed[path].integrity === integrity
      : optional === true || devOptional === true))
}

function installPackages (lockFd) {
  say('installing npm packages')
  // --include=dev: NODE_ENV=production would leave out tsc. The npm that runs us says where it is (yarn does so, too).
  const execPath = process.env.npm_execpath ?? ''
  const npm = execPath.endsWith('npm-cli.js') ? [process.execPath, execPath] : ['npm']
  // no package needs a script of its own: all native ones come built
  const argv = [...npm, 'ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error']
  const { status, error } = spawnSync(argv[0], argv.slice(1), { cwd: root, stdio: ['ignore', 'ignore', 'inherit', lockFd] })
  if (status !== 0) throw new StepError(`npm ci failed${error ? `: ${error.message}` : ''}`)
}
