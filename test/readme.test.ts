import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import t from 'tap'
import { makeDirectory, startAgent } from './helpers/built-agent.ts'

const execute = promisify(execFile)

t.setTimeout(300_000)

/** The curl lines of the README, in order: they build on each other. */
async function curlLines (): Promise<string[]> {
  const text = await readFile(new URL('../README.md', import.meta.url), 'utf8')
  return [...text.matchAll(/```sh\n(.*?)```/gs)].flatMap(([, block = '']) => block.split('\n')).filter(line => line.startsWith('curl'))
}

t.test('every curl line of the README does what is said there', async t => {
  const { address } = await startAgent(t, await makeDirectory(t))
  const lines = await curlLines()
  t.ok(lines.length > 10, 'the README has curl lines')
  for (const line of lines) {
    const command = line.replaceAll('http://127.0.0.1:7480', address)
    const isStream = line.includes(' -N ')
    // a stream that follows everything has no end: it is read for a moment
    const words = isStream ? command.replace('curl', 'curl -s --max-time 2') : command.replace('curl', "curl -s -w '\n%{http_code}'")
    const { stdout } = await execute('bash', ['-c', isStream ? `${words} || test $? -eq 28` : words])
    t.match(stdout, isStream ? /event: synced\n/ : /^\{.*\n20[02]$/s, line)
  }
  const copies = JSON.parse((await execute('curl', ['-sf', `${address}/tasks?state=failed,rejected`])).stdout) as { items: unknown[] }
  t.same(copies.items, [], 'no task of the README fails')
})
