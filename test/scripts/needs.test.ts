import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = fileURLToPath(new URL('../..', import.meta.url))

t.test('a test file that needs a program which is not installed is skipped, and counted as skipped', async t => {
  const { stdout, status } = spawnSync(process.execPath, [join(root, 'scripts/run-tests.mjs'), 'test/system/durable.test.ts'], {
    cwd: root, encoding: 'utf8', env: { PATH: '/nothing-here' }
  })
  t.match(stdout, /^ok 1 - test\/system\/durable\.test\.ts.* # SKIP not installed: gcc$/m, stdout)
  t.match(stdout, /^# \{ total: 1, pass: 0, skip: 1 \}$/m)
  t.equal(status, 0)
})

/** Programs that tests run by themselves: how that looks, and the helpers that say for their users that they need it. */
const programs: Record<string, [run: RegExp, helper?: RegExp]> = {
  strace: [/'strace'/, /helpers\/strace\.ts'/],
  gcc: [/'gcc'/, /helpers\/(kill-at-call|crash-steps)\.ts'/],
  bindfs: [/'bindfs'|HangingStorage\./],
  bwrap: [/'bwrap'/],
  nginx: [/'nginx'/],
  'mkfs.xfs': [/'mkfs\.xfs'/],
  'qemu-img': [/(sh|run|spawn|execFile|execute)\w*\('qemu-img'/, /helpers\/(agent|built-agent|serve|storage-jobs)\.ts'/]
}

t.test('whoever runs a program says that it needs it', async t => {
  let seen = 0
  for (const file of readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.test.ts') || file === 'scripts/needs.test.ts') continue
    const text = readFileSync(join(root, 'test', file), 'utf8')
    const said = [...text.matchAll(/^needs\((.*)\)$/gm)].map(([, names = '']) => names).join()
    for (const [program, [run, helper]] of Object.entries(programs)) {
      if (!run.test(text)) continue
      seen++
      t.ok(said.includes(`'${program}'`) || helper?.test(text), `${file} needs ${program}`)
    }
  }
  t.ok(seen > 30, `${seen} uses`)
})
