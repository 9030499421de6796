import { execFile } from 'node:child_process'
import { readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import openapiTypescript, { astToString } from 'openapi-typescript'
import { generateApi } from 'swagger-typescript-api'
import t, { type Test } from 'tap'
import { makeDirectory, startAgent } from '../helpers/built-agent.ts'

// What others do with the document: generate a client, compile it strictly, and copy an image with it.

const execute = promisify(execFile)
const root = fileURLToPath(new URL('../..', import.meta.url))
const document = join(root, 'openapi/openapi.json')

t.setTimeout(300_000)

/** Compiles everything in a directory as strictly as TypeScript can, and resolves with the directory of the output. */
async function compile (directory: string): Promise<void> {
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'))
  await writeFile(join(directory, 'package.json'), '{"type":"module"}')
  await writeFile(join(directory, 'tsconfig.json'), JSON.stringify({
    compilerOptions: { strict: true, noUncheckedIndexedAccess: true, target: 'es2022', module: 'nodenext', lib: ['es2022', 'dom', 'dom.iterable'], types: ['node'] },
    files: ['program.ts']
  }))
  await execute(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', directory]).catch((error: { stdout?: string }) => { throw new Error(error.stdout) })
}

/** Runs the compiled program against an agent: it copies, waits, cancels, and prints what became of it. */
async function runProgram (t: Test, directory: string): Promise<void> {
  const agent = await startAgent(t, directory)
  const { stdout } = await execute(process.execPath, [join(directory, 'program.js'), agent.address])
  t.match(JSON.parse(stdout), { copied: 'succeeded', canceled: 'canceled' })
}

t.test('types by openapi-typescript compile under strict and perform copy, wait and cancel', async t => {
  const directory = await makeDirectory(t)
  await writeFile(join(directory, 'api.ts'), astToString(await openapiTypescript(await readFile(document, 'utf8'))))
  await writeFile(join(directory, 'program.ts'), `
import type { components, paths } from './api.js'
type Task = components['schemas']['Task']
type Spec = paths['/tasks/{id}']['put']['requestBody']['content']['application/json']
const [, , base] = process.argv
async function call (method: string, id: string, body?: Spec, prefer = 'wait=2'): Promise<Task> {
  const response = await fetch(base + '/tasks/' + id, { method, headers: { prefer, 'content-type': 'application/json' }, ...(body && { body: JSON.stringify(body) }) })
  if (!response.ok) throw new Error(await response.text())
  return await response.json() as Task
}
const copy = (image: string, bandwidth?: number): Spec => ({
  kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image }, ...(bandwidth && { bandwidth })
})
await call('PUT', 'a', copy('a.qcow2'))
const copied: Task['state'] = (await call('GET', 'a', undefined, 'wait=60')).state
await call('PUT', 'b', copy('b.raw', 1048576))
await call('DELETE', 'b')
const canceled: Task['state'] = (await call('GET', 'b', undefined, 'wait=60')).state
console.log(JSON.stringify({ copied, canceled }))
`)
  await compile(directory)
  await runProgram(t, directory)
})

t.test('a client by swagger-typescript-api compiles under strict and performs copy, wait and cancel', async t => {
  const directory = await makeDirectory(t)
  await generateApi({ input: document, output: directory, fileName: 'api.ts', silent: true })
  await writeFile(join(directory, 'program.ts'), `
import { Api, type CopyImage, type Task } from './api.js'
const [, , base = ''] = process.argv
const { tasks } = new Api({ baseUrl: base })
const copy = (image: string, bandwidth?: number): CopyImage => ({
  kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image }, ...(bandwidth && { bandwidth })
})
const wait = { headers: { prefer: 'wait=60' } }
await tasks.putTask('a', copy('a.qcow2'))
const copied: Task['state'] = (await tasks.getTask('a', wait)).data.state
await tasks.putTask('b', copy('b.raw', 1048576))
await tasks.cancelTask('b')
const canceled: Task['state'] = (await tasks.getTask('b', wait)).data.state
console.log(JSON.stringify({ copied, canceled }))
`)
  await compile(directory)
  await runProgram(t, directory)
})
