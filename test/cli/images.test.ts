import { mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { Client } from '../../src/client/client.ts'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'
import { until } from '../helpers/processes.ts'
import { runCommand, startCommand } from '../helpers/command-line.ts'
import { Empty } from '../helpers/empty.ts'
import { makeOld, sh } from '../helpers/images.ts'

t.setTimeout(180_000)

const { address, directory } = await startAgent(t, await makeDirectory(t))
const client = new Client({ url: address })
t.teardown(async () => { await client.close() })

t.test('images are made, listed, told about, compared and deleted', async t => {
  const run = async (...args: string[]) => await runCommand(t, args, { env: { VDSM_TASKS_URL: address }, cwd: directory })
  t.match(await run('create', 'local/a.qcow2', '1G', '--id', 'made'), { status: 0, stdout: 'done  made  local/a.qcow2 is created, 1 GiB\n' })
  t.match(await run('create', 'local/b.qcow2', '1G', '--json'), { status: 0 })
  t.match(await run('images'), { status: 0, stdout: /^IMAGE +FORMAT +SIZE +ON STORAGE +MODIFIED\nlocal\/a\.qcow2 +qcow2 .*\nlocal\/b\.qcow2 .*\nlocal\/sample\.raw +raw +256 MiB / })
  t.same(JSON.parse((await run('images', 'local', '--json')).stdout).items.map((item: { image: string }) => item.image), ['a.qcow2', 'b.qcow2', 'sample.raw'])
  // three names of one image
  await mkdir(join(directory, 'elsewhere'))
  await symlink('../images', join(directory, 'elsewhere/link'))
  for (const name of ['local/a.qcow2', 'images/a.qcow2', 'elsewhere/link/a.qcow2']) {
    t.match(await run('status', name), { status: 0, stdout: /^image +local\/a\.qcow2\nstate +ok\nformat +qcow2\nsize +1 GiB\n/ }, name)
  }
  t.match(JSON.parse((await run('status', 'local/a.qcow2', '--json')).stdout), { state: 'ok', virtualSize: 2 ** 30 })
  t.match(await run('verify', 'local/a.qcow2', 'local/b.qcow2'), { status: 0, stdout: /local\/a\.qcow2 = local\/b\.qcow2: identical\n$/ })
  t.match(await run('verify', 'local/a.qcow2', 'local/sample.raw'), { status: 1, stdout: '', stderr: /not identical, first difference at byte \d+\n$/ })
  t.match(await run('create', 'local/a.qcow2', '1G'), { status: 4, stderr: /There is an image a\.qcow2 in domain local/ })
  t.match(await run('delete', 'local/a.qcow2'), { status: 0, stdout: /local\/a\.qcow2 is deleted, .* freed\n$/ })
  t.match(await run('status', 'local/a.qcow2'), { status: 1, stderr: /no image a\.qcow2/ })
  t.match(await run('domains'), { status: 0, stdout: /^DOMAIN +STATE +SIZE +FREE +PATH\nlocal +available / })
  t.match(JSON.parse((await run('domains', '--json')).stdout), { items: [{ domain: 'local' }] })
})

t.test('an interrupted copy is told, mended by name or with all others, and its task is waited for and canceled', async t => {
  const run = async (...args: string[]) => await runCommand(t, args, { env: { VDSM_TASKS_URL: address } })
  t.match(await run('fixes'), { status: 0, stdout: '', stderr: 'Nothing is broken.\n' })
  t.match(await run('copy', 'local/sample.raw', 'local/one.raw', '--bandwidth', '1', '--id', 'one', '--detach'), { status: 0 })
  t.match(await run('copy', 'local/sample.raw', 'local/other.raw', '--id', 'one'), { status: 4, stderr: /one/ })
  t.match(await run('tasks', '--state', 'active'), { status: 0, stdout: /^ID +KIND +STATE +ABOUT +HOW FAR\none +copyImage +running +local\/sample\.raw -> local\/one\.raw .*\n$/ })
  t.equal(JSON.parse((await run('tasks', '--id-prefix', 'o', '--json')).stdout).items.length, 1)
  t.match(await run('task', 'one'), { status: 0, stdout: /^task +one\nkind +storage\.copyImage\nabout .*\nstate +running\n/ })
  const waiting = startCommand(t, ['wait', 'one', '--json'], { env: { VDSM_TASKS_URL: address } })
  await waiting.says(/one.* running/)
  t.match(await run('copy', 'local/sample.raw', 'local/two.raw', '--bandwidth', '1', '--id', 'two', '--detach'), { status: 0 })
  t.match(await run('cancel', 'one', 'two'), { status: 0, stdout: /^canceled {2}one .*\ncanceled {2}two / })
  t.equal(await waiting.ended, 1)
  t.match(JSON.parse(waiting.stdout()), { id: 'one', state: 'canceled' })
  t.match(await run('status', 'local/one.raw'), { status: 0, stdout: /state +interrupted\n[^]*copy of +local\/sample\.raw\ncopied +\d+ %[^]*\nwhat helps +vdsm-tasks mend local\/one\.raw: .*\nwhat helps +vdsm-tasks delete local\/one\.raw: / })
  t.match(await run('mend', 'local/one.raw'), { status: 0, stdout: /local\/one\.raw is complete, 256 MiB; moved .*, in 2 runs\n$/ })
  t.match(JSON.parse((await run('fixes', '--json')).stdout), { items: [{ domain: 'local', image: 'two.raw', state: 'interrupted' }] })
  const applying = run('fixes', 'local', '--apply')
  // the fix keeps the bandwidth of the copy
  const { items: [mend] } = await until(async () => { const list = await client.listTasks({ state: ['active'] }); return list.items.length > 0 && list }, 'the copy to go on')
  t.match(mend?.spec, { kind: 'storage.mendImage', bandwidth: 1 })
  await client.tuneTask(mend?.id ?? '', null)
  t.match(await applying, { status: 0, stdout: /local\/two\.raw is complete/ })
  t.match(await run('fixes', '--apply'), { status: 0, stdout: '', stderr: 'There is nothing to mend.\n' })
  t.match(await run('mend', 'local/two.raw'), { status: 4, stderr: /complete/ })
  t.match(await run('wait'), { status: 0, stderr: 'No task is active.\n' })
  t.match(await run('wait', 'unknown'), { status: 1, stderr: /No task unknown/ })
})

t.test('a domain that is not there is named: nothing found is not nothing broken', async t => {
  const { address } = await startAgent(t, await makeDirectory(t), { domains: [{ id: 'local', path: './images', create: true }, { id: 'far', path: './nowhere' }] })
  const run = async (...args: string[]) => await runCommand(t, args, { env: { VDSM_TASKS_URL: address } })
  t.match(await run('fixes'), { status: 1, stdout: '', stderr: /^far was not looked into: Domain far is not available: .*\nNothing is broken in the other domains\.\n$/ })
  t.match(await run('fixes', '--apply'), { status: 1, stderr: /^far was not looked into/ })
  const { status, stdout } = await run('images', '--json')
  t.match({ status, found: JSON.parse(stdout) }, { status: 1, found: { items: Empty, unknown: [{ domain: 'far', code: 'domain-unavailable', detail: /mounted/ }] } })
  t.match(await run('fixes', 'local'), { status: 0, stderr: 'Nothing is broken.\n' })
})

t.test('what is wrong with a command is told in its own words', async t => {
  const run = async (...args: string[]) => await runCommand(t, args, { env: { VDSM_TASKS_URL: address } })
  t.match(await run('create', 'local/a.unknown', '1M'), { status: 2, stderr: /Give --format raw or --format qcow2/ })
  t.match(await run('create', 'local/a.raw', '1'), { status: 2, stderr: /^<size> must be .* --help tells what is allowed\.\n$/ })
  t.match(await run('create', 'local/a.raw', '1M', '--id', 'a b'), { status: 2, stderr: /^The id of the task has characters that are not allowed/ })
  t.match(await run('create', 'local/taken.raw', '1M'), { status: 0 })
  t.match(await run('copy', 'local/sample.raw', 'local/taken.raw'), { status: 4, stderr: /Delete it first, choose another name, or give --on-existing replace\.\n$/ })
  t.match(await run('fixes', 'nosuch'), { status: 1, stderr: 'This agent has no domain nosuch. "vdsm-tasks domains" lists those it has.\n' })
  t.match(await run('tasks', '--state', 'odd'), { status: 2, stderr: /^--state: "odd" is no state of a task/ })
})

t.test('what may be wrong with an image is told, in its status and in a dry run', async t => {
  const run = async (...args: string[]) => await runCommand(t, args, { env: { VDSM_TASKS_URL: address } })
  const at = (image: string) => join(directory, 'images', image)
  await sh('qemu-img', 'create', '-q', '-f', 'raw', at('base.raw'), '1M')
  await sh('qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', 'base.raw', at('over.qcow2'))
  await makeOld(at('over.qcow2'))
  t.match(await run('status', 'local/over.qcow2'), { status: 0, stdout: /state +ok\nwarning +base\.raw was written .* after over\.qcow2/ })
  const dryRun = ['copy', 'local/over.qcow2', 'local/never.raw', '--dry-run']
  t.match(await run(...dryRun), { status: 0, stdout: /^would +copy\ndisk +1 MiB\n[^]*\nwarning +base\.raw was written/ })
  t.match(JSON.parse((await run(...dryRun, '--json')).stdout), { outcome: 'created', plan: { outcome: 'copy', warnings: [/base\.raw/] } })
  await rm(at('base.raw'))
  t.match(await run(...dryRun), { status: 1, stderr: /backing file base\.raw is missing/ })
  await until(async () => (await run('status', 'local/over.qcow2')).stdout.includes('illegal'))
  t.match(await run('status', 'local/over.qcow2'), { status: 0, stdout: /state +illegal\nwhy +.*its backing file base\.raw is missing/ })
})
