import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { parseConfig } from '../src/config.ts'

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
  const security = await execute('systemd-analyze', ['security', '--offline=true', '--threshold=45', '--no-pager', unit], { cwd: root })
  t.match(security.stdout, /Overall exposure level for \S+: [0-4]\.\d/)
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
