import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { exitStatuses } from '../src/cli/exit.ts'
import { makeDirectory, startAgent } from './helpers/built-agent.ts'

const execute = promisify(execFile)

t.setTimeout(300_000)

/** The curl lines of a document, in order: they build on each other. */
async function curlLines (document: string): Promise<string[]> {
  const text = await readFile(new URL(`../${document}`, import.meta.url), 'utf8')
  return [...text.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block = '']) => block.split('\n')).filter(line => line.startsWith('curl'))
}

t.test('every curl line of the README and the guides does what is said there', async t => {
  const { address } = await startAgent(t, await makeDirectory(t))
  const lines = await curlLines('README.md')
  t.ok(lines.length > 10, 'the README has curl lines')
  for (const guide of ['docs/engine.md', 'docs/operations.md']) {
    const more = await curlLines(guide)
    t.ok(more.length > 1, `${guide} has curl lines`)
    lines.push(...more)
  }
  for (const line of lines) {
    const command = line.replaceAll('http://127.0.0.1:7480', address)
    const isStream = line.includes(' -N ')
    // a stream that follows everything has no end: it is read for a moment
    const words = isStream ? command.replace('curl', 'curl -s --max-time 2') : command.replace('curl', "curl -s -w '\n%{http_code}'")
    const { stdout } = await execute('bash', ['-c', isStream ? `${words} || test $? -eq 28` : words])
    if (line.endsWith('/metrics')) t.match(stdout, /^# HELP .*\n200$/s, line)
    else t.match(stdout, isStream ? /event: synced\n/ : /^\{.*\n20[02]$/s, line)
  }
  const copies = JSON.parse((await execute('curl', ['-sf', `${address}/tasks?state=failed,rejected`])).stdout) as { items: unknown[] }
  t.same(copies.items, [], 'no task of the README fails')
})

/** The commands of the README's consoles, each with what it is said to print. */
async function consoleLines (): Promise<Array<{ command: string, output: string }>> {
  const text = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  return [...text.matchAll(/```console\n(.*?)```/gs)]
    .flatMap(([, block = '']) => block.split(/^\$ /m).slice(1))
    .map(part => ({ command: part.slice(0, part.indexOf('\n')), output: part.slice(part.indexOf('\n') + 1) }))
}

/** What differs from run to run: new ids, times, amounts, the host, and how wide that makes a column. */
function withoutDetails (output: string): string {
  return output
    .replaceAll(/Image-[0-9a-f]{8}/g, 'Image-ID')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'TIME')
    .replaceAll(/[\d.]+ [KMG]?i?B/g, 'BYTES')
    .replaceAll(/on host \S+/g, 'on host HOST')
    .replaceAll(/ +/g, ' ')
}

t.test('every command line of the README prints what is shown there', async t => {
  const directory = await makeDirectory(t)
  const { address } = await startAgent(t, directory)
  const bin = join(directory, 'bin')
  await mkdir(bin)
  await writeFile(join(bin, 'vdsm-tasks'), `#!/bin/sh\nexec '${process.execPath}' '${fileURLToPath(new URL('../dist/cli/main.js', import.meta.url))}' "$@"\n`)
  await chmod(join(bin, 'vdsm-tasks'), 0o755)
  // jq is not a program that this project needs
  await writeFile(join(bin, 'jq'), `#!/bin/sh\nexec '${process.execPath}' -e 'console.log(JSON.parse(fs.readFileSync(0))[process.argv[1].slice(1)])' "$2"\n`)
  await chmod(join(bin, 'jq'), 0o755)
  const env = { PATH: [bin, process.env['PATH']].join(delimiter), VDSM_TASKS_URL: address }
  const lines = await consoleLines()
  t.ok(lines.length > 5)
  for (const { command, output } of lines) {
    const { stdout } = await execute('bash', ['-o', 'pipefail', '-c', command], { env })
    t.equal(withoutDetails(stdout), withoutDetails(output), command)
  }
})

t.test('the exit statuses of the README are those of --help', async t => {
  const text = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  const shown = [...text.matchAll(/^\| (\d+) \| (.*) \|$/gm)].map(([, status = '', words]) => `${status.padEnd(3)}  ${words}`)
  t.same(shown, exitStatuses.split('\n').slice(1).map(line => line.trim()))
})
