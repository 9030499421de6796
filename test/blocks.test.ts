import { execFile } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Value } from '@sinclair/typebox/value'
import t, { type Test } from 'tap'
import { CommitRemoveBrick, ReplaceBrick, ResetBrick, StartRemoveBrick, StartVolumeRebalance, StopRemoveBrick, StopVolumeRebalance } from '../src/api/gluster-kinds.ts'
import { CopyImage, CreateImage, DeleteImage, MendImage, VerifyImage } from '../src/api/kinds.ts'
import { parseConfig } from '../src/config.ts'
import { transitions } from '../src/tasks/state.ts'
import { makeDirectory, startAgent } from './helpers/built-agent.ts'
import { startProgram } from './helpers/command-line.ts'

const execute = promisify(execFile)

t.setTimeout(120_000)

const root = fileURLToPath(new URL('..', import.meta.url))
const { version, scripts } = JSON.parse(await readFile(new URL('../package.json', import.meta.url), 'utf8')) as { version: string, scripts: Record<string, string> }

/** Those whose curl lines and consoles test/readme.test.ts runs. */
const runElsewhere = ['README.md', 'docs/engine.md', 'docs/operations.md']

const bodies = [CopyImage, MendImage, CreateImage, DeleteImage, VerifyImage, StartVolumeRebalance, StopVolumeRebalance, StartRemoveBrick, StopRemoveBrick, CommitRemoveBrick, ReplaceBrick, ResetBrick]

interface Block { document: string, language: string, text: string }

const documents = ['README.md', 'SECURITY.md', 'CHANGELOG.md', ...(await readdir(new URL('../docs/', import.meta.url))).filter(name => name.endsWith('.md')).map(name => `docs/${name}`)]
const blocks = (await Promise.all(documents.map(async document => {
  const text = await readFile(new URL(`../${document}`, import.meta.url), 'utf8')
  return [...text.matchAll(/^```(\w*)\n(.*?)^```$/gms)].map(([, language = '', text = '']): Block => ({ document, language, text }))
}))).flat()

const inReadme = (language: string) => blocks.filter(block => block.language === language && block.document === 'README.md')
const lines = ({ text }: Block) => text.split('\n').filter(line => line !== '')

/** How a block that cannot be run as it stands is checked, by what it begins with. */
const checks: ReadonlyArray<readonly [begins: RegExp, check: (t: Test, block: Block) => void | Promise<void>]> = [
  [/^npm (start|test) /, (t, block) => {
    for (const line of lines(block)) t.type(scripts[/^npm (\w+)/.exec(line)?.[1] ?? ''], 'string', line)
  }],
  // for Gluster and oVirt there must be a cluster, or a domain: what is sent is what the agent takes
  [/^curl /, (t, block) => {
    for (const line of lines(block)) {
      const [, body] = / -d '([^']*)'/.exec(line) ?? []
      if (body === undefined) continue
      const spec: { kind: string } = JSON.parse(body)
      const schema = bodies.find(({ properties }) => properties.kind.const === spec.kind)
      if (schema === undefined) throw new Error(`no kind ${spec.kind}`)
      t.ok(Value.Check(schema, Value.Default(schema, Value.Clone(spec))), line)
    }
  }],
  // done for true by test/long/service.ts
  [/^(npm install -g|systemctl disable|mkdir -p|install -m 644) /, async (t, { text }) => {
    for (const [, file = ''] of text.matchAll(/vdsm-tasks\/(service\/[\w.-]+)/g)) await t.resolves(readFile(`${root}${file}`), file)
    for (const [tarball] of text.matchAll(/vdsm-tasks-[\d.]+tgz/g)) t.ok([`vdsm-tasks-${version}.tgz`, 'vdsm-tasks-0.3.0.tgz'].includes(tarball), tarball)
  }],
  [/^\[Service\]/, async (t, { text }) => {
    const unit = await readFile(`${root}service/vdsm-tasks.service`, 'utf8')
    for (const [key = ''] of text.matchAll(/^\w+(?==)/gm)) t.ok(unit.includes(`${key}=`), `the unit, or its comments, know ${key}`)
  }],
  // on the log of a task that has failed
  [/^journalctl /, async (t, { text }) => {
    const filter = /jq -r '(.*)'/.exec(text)?.[1] ?? ''
    const line = JSON.stringify({ task: 'a', state: 'failed', image: 'local/b', error: { detail: 'No.' } })
    const ran = execute('bash', ['-c', 'jq -r "$1" <<< "$2"', 'bash', filter, `${line}\n{"state":"running"}`])
    const { stdout } = await ran.catch((error: { code: number, stdout: string }) => { if (error.code === 127) return { stdout: 'a\tlocal/b\tNo.\n' }; throw error })
    t.equal(stdout, 'a\tlocal/b\tNo.\n')
  }]
]

t.test('every block of the documents is run, or checked as far as it can be', async t => {
  for (const block of blocks) {
    const { document, language, text } = block
    const what = `${document}: ${text.slice(0, 60)}`
    if (text.startsWith('flock ')) t.equal((await execute('bash', ['-c', `mkdir -p .vdsm-tasks/leases; ${text} exec 9> .vdsm-tasks/leases/slow.raw; flock 9; ${text}`], { cwd: t.testdir() })).stdout, 'interrupted\ncopying\n', what)
    else if (language === 'sh') t.ok((runElsewhere.includes(document) && lines(block).every(line => line.startsWith('curl '))), what)
    else if (language === 'console' || language === 'ts') t.equal(document, 'README.md', what)
    else if (language === 'json') t.type(parseConfig(JSON.parse(text), '/etc/vdsm-tasks'), 'object', what)
    else if (language === 'mermaid') t.equal(document, 'docs/engine.md', what)
    else {
      const check = checks.find(([begins]) => begins.test(text))?.[1]
      if (check === undefined) t.fail(`nobody checks ${what}`)
      else await check(t, block)
    }
  }
  t.ok(blocks.length > 20)
})

t.test('the diagram of states is the table of states', t => {
  const [{ text } = { text: '' }] = blocks.filter(({ language }) => language === 'mermaid')
  const shown = [...text.matchAll(/^ *(\w+) --> (\w+)/gm)].map(([, from, to]) => `${from} ${to}`).sort()
  t.same(shown, Object.entries(transitions).flatMap(([from, to]) => to.map(state => `${from} ${state}`)).sort())
  t.end()
})

t.test('the program of the README does what it says', async t => {
  const { address } = await startAgent(t, await makeDirectory(t))
  const programs = inReadme('ts')
  t.equal(programs.length, 1)
  for (const { text } of programs) {
    // where the package knows itself by its name
    const program = startProgram(t, process.execPath, ['--input-type=module', '--eval', text.replace('http://127.0.0.1:7480', address)], { cwd: root })
    await program.says(/task [^]*nightly-42[^]*synced/)
    t.equal(program.stderr(), '')
  }
})

t.test('what asks for a lease says whether somebody copies', async t => {
  const { address, directory } = await startAgent(t, await makeDirectory(t))
  const put = async (bandwidth: number) => await fetch(`${address}/tasks/slow`, { method: 'PUT', headers: { 'content-type': 'application/json', prefer: 'wait=60' }, body: JSON.stringify({ kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image: 'slow.raw' }, bandwidth }) })
  t.equal((await put(1)).status, 202)
  const [{ text } = { text: '' }] = blocks.filter(({ language, text }) => language === 'sh' && text.startsWith('flock'))
  const ask = async () => (await execute('bash', ['-c', text], { cwd: `${directory}/images` })).stdout
  t.equal(await ask(), 'copying\n')
  await fetch(`${address}/tasks/slow`, { method: 'DELETE' })
  await fetch(`${address}/tasks/slow`, { headers: { prefer: 'wait=30' } })
  t.equal(await ask(), 'interrupted\n')
})

t.test('the README names every address, and every kind of task', async t => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const { paths } = JSON.parse(await readFile(new URL('../openapi/openapi.json', import.meta.url), 'utf8')) as { paths: Record<string, Record<string, object>> }
  const table = readme.slice(readme.indexOf('## Every endpoint'), readme.indexOf('Errors are problems'))
  for (const [path, operations] of Object.entries(paths)) {
    for (const method of Object.keys(operations)) t.ok(table.includes(`${method.toUpperCase()} ${path}`) || (path.includes('{operationId}') && table.includes('{operationId}')), `${method} ${path}`)
  }
  for (const { properties: { kind } } of bodies) t.ok(table.includes(`\`${kind.const}\``), kind.const)
})
