import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import t, { type Test } from 'tap'

const script = fileURLToPath(new URL('../../scripts/check-imports.mjs', import.meta.url))

type Tree = { [name: string]: string | Tree }

/** Writes a src folder, runs the script over it and gives back what it printed, line by line. */
async function check (t: Test, src: Tree) {
  const folder = t.testdir({ src })
  return await new Promise<{ status: number, lines: string[] }>(resolve => {
    const child = execFile(process.execPath, [script, folder], (_error, stdout) => {
      resolve({ status: child.exitCode ?? -1, lines: stdout.trimEnd().split('\n') })
    })
  })
}

t.test('a house in order passes', async t => {
  const { status, lines } = await check(t, {
    'main.ts': "import { serve } from './serve.ts'\nimport { argv } from 'node:process'\nexport const a = [serve, argv, process.pid]",
    'serve.ts': "import { createApp } from './app.ts'\nexport const serve = [createApp, process.stdout]",
    'app.ts': "import fastify from 'fastify'\nimport { a } from './http/tasks.ts'\nimport { b } from './storage/verbs.ts'\nexport const createApp = [fastify, a, b]",
    'unprintable.ts': 'export const escape = 1',
    'errors.ts': "import type { Problem } from './api/problem.ts'\nexport { escape } from './unprintable.ts'\nexport type P = Problem",
    api: { 'problem.ts': "export { x } from './schema.ts'\nexport type Problem = string", 'schema.ts': 'export const x = 1' },
    http: { 'tasks.ts': "import type { FastifyInstance } from 'fastify'\nimport { b } from '../tasks/registry.ts'\nexport const a = b as FastifyInstance" },
    tasks: { 'registry.ts': "import type { c } from './state.ts'\nexport const b: typeof c = 1", 'state.ts': "import { b } from './registry.ts'\nexport const c = b" },
    events: { 'stream.ts': "import type { FastifyReply } from 'fastify'\nexport type R = FastifyReply" },
    storage: {
      'verbs.ts': "import type { Rpc } from './domain/main.ts'\nimport { readFile } from 'node:fs/promises'\nexport const b = (process: Rpc) => [process.kill(), { process }, readFile]",
      domain: { 'main.ts': "import { lease } from '../lease.ts'\nexport type Rpc = { process: 1, kill: () => void }\nlease(process.argv)" },
      'lease.ts': "import { flush } from '../system/durable.ts'\nexport const lease = (x: unknown) => [flush, x]"
    },
    system: {
      'durable.ts': "import { rename } from 'node:fs/promises'\nexport const flush = rename",
      'run.ts': "import { execa } from 'execa'\nimport { fork } from 'node:child_process'\nexport const run = [execa, fork, process.env]"
    },
    client: { 'client.ts': "import { request } from 'undici'\nimport type { Problem } from '../api/problem.ts'\nexport const c: Problem = request" },
    cli: {
      'main.ts': "import { run } from './program.ts'\nif (process.argv.length === 2) await import('../serve.ts')\nexport const a = run",
      'program.ts': "import { Command } from 'commander'\nimport { c } from '../client/client.ts'\nexport const run = [Command, c]"
    }
  })
  t.strictSame(lines, ['import rules: 19 files checked, no violations'])
  t.equal(status, 0)
})

const leaf = 'export const x = 1\nexport type X = 1'
const house = {
  'app.ts': leaf,
  'errors.ts': leaf,
  api: { 'task.ts': leaf },
  client: { 'client.ts': leaf },
  events: { 'feed.ts': leaf },
  gluster: { 'cli.ts': leaf },
  http: { 'tasks.ts': leaf },
  qemu: { 'info.ts': leaf },
  'serve.ts': leaf,
  storage: { 'lease.ts': leaf, domain: { 'main.ts': leaf }, copy: { 'main.ts': leaf } },
  system: { 'run.ts': leaf },
  tasks: { 'registry.ts': leaf }
}

/** One broken rule a row: a file of its own, its text, and what is said about it. */
const violations: Array<[file: string, text: string, message: string]> = [
  ['errors/code.ts', "import { x } from '../api/task.ts'", 'imports src/api/task.ts: errors may import only types of api'],
  ['errors/code-2.ts', "import { inspect } from 'node:util'", 'imports node:util: errors imports only src/unprintable.ts'],
  ['api/image.ts', "import { x } from '../errors.ts'", 'imports src/errors.ts: api may import only types of api'],
  ['http/images.ts', "import { x } from '../qemu/info.ts'", 'imports src/qemu/info.ts: http may import only api, errors, auth, location, tasks, events, storage, gluster, types of config'],
  ['http/images-2.ts', "import type { X } from '../app.ts'", 'imports src/app.ts: http may import only api, errors, auth, location, tasks, events, storage, gluster, types of config'],
  ['tasks/digest.ts', "import { x } from '../events/feed.ts'", 'imports src/events/feed.ts: tasks may import only api, errors, types of events'],
  ['tasks/digest-2.ts', "export { x } from '../storage/lease.ts'", 'imports src/storage/lease.ts: tasks may import only api, errors, types of events'],
  ['tasks/digest-3.ts', "export const x = async () => await import('../http/tasks.ts')", 'imports src/http/tasks.ts: tasks may import only api, errors, types of events'],
  ['tasks/digest-4.ts', "export type Y = import('../system/run.ts').X", 'imports src/system/run.ts: tasks may import only api, errors, types of events'],
  ['events/ring.ts', "import type { X } from '../tasks/registry.ts'", 'imports src/tasks/registry.ts: events may import only api, errors'],
  ['storage/record.ts', "import type { X } from '../gluster/cli.ts'", 'imports src/gluster/cli.ts: storage may import only api, errors, location, system, qemu, sanlock, types of tasks, types of config, types of storage/domain, types of storage/copy'],
  ['storage/record-2.ts', "import { type X } from './domain/main.ts'", 'imports src/storage/domain/main.ts: storage may import only api, errors, location, system, qemu, sanlock, types of tasks, types of config, types of storage/domain, types of storage/copy'],
  ['storage/copy/window.ts', "import type { X } from '../domain/main.ts'", 'imports src/storage/domain/main.ts: storage/copy may import only api, errors, system, qemu, sanlock, storage'],
  ['storage/domain/read.ts', "import type { X } from '../copy/main.ts'", 'imports src/storage/copy/main.ts: storage/domain may import only api, errors, system, qemu, sanlock, storage'],
  ['storage/domain/read-2.ts', "import type { X } from '../../tasks/registry.ts'", 'imports src/tasks/registry.ts: storage/domain may import only api, errors, system, qemu, sanlock, storage'],
  ['gluster/xml.ts', "import type { X } from '../storage/lease.ts'", 'imports src/storage/lease.ts: gluster may import only api, errors, location, system, types of tasks, types of config, types of gluster/brick'],
  ['qemu/argv.ts', "import type { X } from '../tasks/registry.ts'", 'imports src/tasks/registry.ts: qemu may import only api, errors, system'],
  ['system/fork.ts', "import type { X } from '../storage/lease.ts'", 'imports src/storage/lease.ts: system may import only errors, location, types of api'],
  ['client/watch.ts', "import { x } from '../api/task.ts'", 'imports src/api/task.ts: client may import only types of api'],
  ['cli/copy.ts', "import type { X } from '../errors.ts'", 'imports src/errors.ts: cli may import only client, auth, types of api'],
  ['cli/serve.ts', "import { x } from '../serve.ts'", 'imports src/serve.ts: cli may import only client, auth, types of api'],
  ['cli/main.ts', "import { x } from '../app.ts'", 'imports src/app.ts: cli/main may import only cli, serve, types of api'],
  ['main.ts', "import { x } from './app.ts'", 'imports src/app.ts: main may import only serve, types of api'],
  ['http/images-4.ts', "import { Command } from 'commander'", 'imports commander: only cli may know commander'],
  ['helpers/pad.ts', leaf, 'is in no room: give its folder a row in scripts/check-imports.mjs'],
  ['tasks/registry/index.ts', leaf, 'is an index file: import from the file that has the thing'],
  ['tasks/digest-5.ts', "import type { FastifyRequest } from 'fastify'", 'imports fastify: only app, http, events/stream may know fastify'],
  ['events/feed.ts', "import swagger from '@fastify/swagger'", 'imports @fastify/swagger: only app, http, events/stream may know fastify'],
  ['http/images-3.ts', "import { request } from 'undici'", 'imports undici: only client may know undici'],
  ['gluster/cli.ts', "import { execa } from 'execa'", 'imports execa: only system may know execa'],
  ['storage/children.ts', "import type { ChildProcess } from 'child_process'", 'imports child_process: only system, cli/reader may know node:child_process'],
  ['storage/children-2.ts', "import { env } from 'node:process'", 'imports node:process: only system, serve, **/main may know node:process'],
  ['cli/copy-2.ts', "import { connect } from 'vdsm-tasks/client'", 'imports vdsm-tasks/client: nothing in src may import vdsm-tasks'],
  ['http/app.ts', 'export const pid = process.pid', 'uses the global process: only system/, serve.ts and files named main.ts may; take what you need as an argument'],
  ['http/app-2.ts', 'export const pid = globalThis.process.pid', 'uses the global process: only system/, serve.ts and files named main.ts may; take what you need as an argument'],
  ['storage/record-3.ts', "import { renameSync as move } from 'node:fs'", 'uses renameSync: only system may; the order of fsync, rename and link is what survives a crash'],
  ['storage/record-4.ts', "import * as fs from 'fs'; export const f = fs.promises.link", 'uses link: only system may; the order of fsync, rename and link is what survives a crash'],
  ['storage/record-5.ts', "import type { FileHandle } from 'node:fs/promises'; export const f = (h: FileHandle) => h.datasync()", 'uses datasync: only system may; the order of fsync, rename and link is what survives a crash'],
  ['http/app-3.ts', 'export default 1', 'is a default export: use named exports, so that a thing has one name everywhere'],
  ['http/app-4.ts', 'export default function app () {}', 'is a default export: use named exports, so that a thing has one name everywhere'],
  ['http/app-5.ts', 'const app = 1; export { app as default }', 'is a default export: use named exports, so that a thing has one name everywhere']
]

t.test('each broken rule is told in one line, with the file, the line and the reason', async t => {
  // All in one tree, because most of the time goes into starting the script.
  const src: Tree = structuredClone(house)
  for (const [file, text] of violations) put(src, file, `\n${text}\n`)
  const { status, lines } = await check(t, src)
  t.match(lines.pop(), new RegExp(`files checked, ${violations.length} violations$`))
  t.strictSame(lines.sort(), violations.map(([file, , message]) => `src/${file}:2 ${message}`).sort())
  t.equal(status, 1)
})

t.test('modules that import each other at run time are a cycle', async t => {
  const { status, lines } = await check(t, {
    tasks: {
      'a.ts': "import { b } from './b.ts'\nexport const a = b",
      'b.ts': "export * from './c.ts'\nexport const b = 1",
      'c.ts': "\nimport { type a } from './a.ts'\nexport type C = typeof a"
    }
  })
  t.strictSame(lines, [
    'src/tasks/c.ts:2 imports src/tasks/a.ts: that closes a cycle, src/tasks/a.ts -> src/tasks/b.ts -> src/tasks/c.ts -> src/tasks/a.ts',
    'import rules: 3 files checked, 1 violations'
  ])
  t.equal(status, 1)
})

t.test('a folder without any source file has not been checked', async t => {
  const { status, lines } = await check(t, {})
  t.strictSame(lines, ['import rules: 0 files checked, no violations'])
  t.equal(status, 1)
})

function put (tree: Tree, path: string, text: string) {
  const [name = '', ...rest] = path.split('/')
  if (rest.length === 0) {
    tree[name] = text
    return
  }
  const folder = tree[name] ?? {}
  tree[name] = folder
  if (typeof folder !== 'string') put(folder, rest.join('/'), text)
}
