import { execFile } from 'node:child_process'
import { copyFile, mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { parseConfig } from '../src/config.ts'
import { temporaryDirectory } from './helpers/directory.ts'

const execute = promisify(execFile)
const root = fileURLToPath(new URL('..', import.meta.url))
const unit = 'service/vdsm-tasks.service'

t.test('the package holds what runs and what is to be read, and nothing else', async t => {
  const { stdout } = await execute('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root })
  const [{ files, unpackedSize }] = JSON.parse(stdout) as [{ files: Array<{ path: string }>, unpackedSize: number }]
  const paths = files.map(({ path }) => path)
  for (const path of [
    'package.json', 'README.md', 'CHANGELOG.md', 'LICENSE', 'SECURITY.md', 'openapi/openapi.json', unit, 'service/config.json', 'docs/operations.md',
    'dist/main.js', 'dist/cli/main.js', 'dist/client/client.js', 'dist/client/client.d.ts', 'dist/client/openapi.d.ts',
    'dist/storage/domain/main.js', 'dist/storage/copy/main.js', 'dist/storage/discover/main.js', 'dist/web/index.html', 'dist/web/page.js', 'dist/web/style.css', 'dist/web/icon.svg'
  ]) t.ok(paths.includes(path), path)
  t.same(paths.filter(path => !/^(dist\/|docs\/|service\/|openapi\/|README\.md$|CHANGELOG\.md$|SECURITY\.md$|LICENSE$|package\.json$)/.test(path)), [])
  t.same(paths.filter(path => /(^|\/)(test|fixtures|node_modules|src|scripts)\//.test(path) || /(\.test\.|\.map$|\.tsbuildinfo$|\.last\/|\.next\/)/.test(path)), [])
  t.ok(unpackedSize < 10 * 1024 * 1024, `${unpackedSize} bytes`)
})

t.test('the example of a configuration is one', async t => {
  const config = parseConfig(JSON.parse(await readFile(new URL('../service/config.json', import.meta.url), 'utf8')), '/etc/vdsm-tasks')
  t.match(config.listen, [{ host: '127.0.0.1', port: 7480 }, { unix: '/run/vdsm-tasks/agent.sock' }])
})

t.test('systemd finds nothing wrong with the unit, and what it is exposed to is little', async t => {
  const text = await readFile(new URL(`../${unit}`, import.meta.url), 'utf8')
  t.match(text, /^ExecStart=vdsm-tasks serve --config \/etc\/vdsm-tasks\/config\.json$/m)
  const { stdout, stderr } = await execute('systemd-analyze', ['verify', '--man=no', unit], { cwd: root }).catch((error: { stdout: string, stderr: string }) => error)
  // the program is there only where it is installed
  const complaints = `${stdout}${stderr}`.split('\n').filter(line => line.includes('vdsm-tasks') && !/Command vdsm-tasks is not executable|Executable path is not absolute|Failed to create|bad unit file setting/.test(line))
  t.same(complaints, [])
  // with which drop-ins it may be exposed how much, in tenths; docs/operations.md has the same numbers
  for (const [dropIns, most] of [[[], 25], [['user-vdsm.conf'], 15], [['gluster.conf'], 32], [['bubblewrap.conf'], 32]] as const) {
    const folder = await temporaryDirectory(t)
    const units = join(folder, 'etc/systemd/system')
    await mkdir(join(units, 'vdsm-tasks.service.d'), { recursive: true })
    await copyFile(join(root, unit), join(units, 'vdsm-tasks.service'))
    for (const name of dropIns) await copyFile(join(root, 'service', name), join(units, 'vdsm-tasks.service.d', name))
    const { stdout } = await execute('systemd-analyze', ['security', '--offline=true', `--root=${folder}`, `--threshold=${most}`, '--no-pager', 'vdsm-tasks.service'])
    t.match(stdout, /Overall exposure level/, dropIns.join())
  }
})

t.test('what it depends on is pinned: by version, and in the lockfile by content; nothing of it needs to run when it is installed', async t => {
  const { dependencies, devDependencies } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as Record<'dependencies' | 'devDependencies', Record<string, string>>
  for (const [name, version] of Object.entries({ ...dependencies, ...devDependencies })) t.match(version, /^\d+\.\d+\.\d+$/, name)
  const { packages } = JSON.parse(await readFile(new URL('../package-lock.json', import.meta.url), 'utf8')) as { packages: Record<string, { integrity?: string, hasInstallScript?: boolean, dev?: boolean, resolved?: string }> }
  const locked = Object.entries(packages).filter(([path]) => path !== '')
  t.ok(locked.length > 100)
  t.same(locked.filter(([, { integrity }]) => integrity?.startsWith('sha512-') !== true).map(([path]) => path), [])
  t.same(locked.filter(([, { resolved }]) => resolved !== undefined && !resolved.startsWith('https://registry.npmjs.org/')).map(([path]) => path), [])
  // koffi's looks for the binary of this platform, which is a package of its own: `npm ci --ignore-scripts` is enough
  t.same(locked.filter(([, { hasInstallScript, dev }]) => hasInstallScript === true && dev !== true).map(([path]) => path), ['node_modules/koffi'])
})
