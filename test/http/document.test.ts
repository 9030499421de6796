import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Ajv } from 'ajv'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import { pino } from 'pino'
import t from 'tap'
import { createApp } from '../../src/app.ts'
import { parseConfig } from '../../src/config.ts'

const execute = promisify(execFile)
const committed = fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url))

t.setTimeout(120_000)

interface Operation { operationId?: string, summary?: string, description?: string, tags?: string[], responses: Record<string, { description?: string, content?: object }> }
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, { examples?: unknown[] }> }
}

/** The document as the routes say it now. */
async function currentDocument (): Promise<Document> {
  const { http } = createApp(parseConfig({}, '/nonexistent'), pino({ level: 'silent' }))
  await http.ready()
  const document = JSON.parse(JSON.stringify(http.swagger())) as Document
  await http.close()
  return document
}

t.test('the committed document is what the routes say', async t => {
  const text = await readFile(committed, 'utf8')
  t.strictSame(JSON.parse(text), await currentDocument(), 'run npm run openapi after a change of a route and commit the result')
})

t.test('redocly lint finds nothing with its recommended rules', async t => {
  const redocly = fileURLToPath(new URL('../../node_modules/@redocly/cli/bin/cli.js', import.meta.url))
  const { stdout, stderr } = await execute(process.execPath, [redocly, 'lint', '--format=json', '--max-problems=1000', committed], {
    // it would call home
    env: { PATH: process.env['PATH'], REDOCLY_TELEMETRY: 'off', REDOCLY_SUPPRESS_UPDATE_NOTICE: 'true', CI: 'true' }
  })
  t.strictSame((JSON.parse(stdout) as { totals: { errors: number, warnings: number } }).totals, { errors: 0, warnings: 0, ignored: 0 }, stderr)
})

t.test('every operation has a name, words, a tag and its problems', async t => {
  const { paths } = await currentDocument()
  const operations = Object.entries(paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })))
  const ids = operations.map(({ operation }) => operation.operationId)
  t.ok(ids.length > 20, `${ids.length} operations`)
  t.equal(new Set(ids).size, ids.length, 'operationIds are unique')
  for (const { path, method, operation } of operations) {
    t.match(operation, { operationId: /^[a-z][A-Za-z]+$/, summary: /\w/, tags: [/\w/] }, `${method} ${path}`)
    t.ok(Object.keys(operation.responses).some(status => status.startsWith('4')), `${method} ${path} tells how it refuses`)
    for (const [status, { description }] of Object.entries(operation.responses)) t.match(description, /\w/, `${method} ${path} ${status} is described`)
  }
})

t.test('every example is valid by its own schema', async t => {
  const { components } = await currentDocument()
  const ajv = new Ajv2020({ strict: false, discriminator: true })
  addFormats.default(ajv)
  ajv.addSchema({ $id: 'document', components })
  let examples = 0
  for (const [name, { examples: given = [] }] of Object.entries(components.schemas)) {
    for (const example of given) {
      examples++
      const validate = ajv.compile({ $ref: `document#/components/schemas/${name}` })
      t.ok(validate(example), `${name}: ${JSON.stringify(example)}`, { errors: validate.errors })
    }
  }
  t.ok(examples >= 4, 'there are examples')
})

t.test('the reference and the page come from here, with nothing from elsewhere', async t => {
  const { http } = createApp(parseConfig({}, '/nonexistent'), pino({ level: 'silent' }))
  t.teardown(async () => { await http.close() })
  for (const url of ['/', '/docs', '/docs/', '/docs/static/swagger-ui.css', '/page.js', '/style.css', '/openapi.json']) {
    const response = await http.inject({ url, headers: { host: 'localhost' } })
    t.equal(response.statusCode, 200, url)
    t.notMatch(response.body.replaceAll('http://www.w3.org/', ''), /(src|href)="(https?:)?\/\//, `${url} loads nothing from other hosts`)
  }
})

t.test('the reference has every header of the page, to the letter', async t => {
  const { http } = createApp(parseConfig({}, '/nonexistent'), pino({ level: 'silent' }))
  t.teardown(async () => { await http.close() })
  const ofContent = ['content-type', 'content-length', 'etag', 'last-modified', 'accept-ranges', 'date', 'location', 'connection', 'keep-alive']
  const headersAt = async (url: string) => {
    const { headers } = await http.inject({ url, headers: { host: 'localhost' } })
    return Object.fromEntries(Object.entries(headers).filter(([name]) => !ofContent.includes(name)))
  }
  const page = await headersAt('/')
  t.match(page, { 'content-security-policy': /^default-src 'none'; script-src 'self';/, 'cross-origin-opener-policy': 'same-origin' })
  t.notMatch(page['content-security-policy'], /unsafe|https:/)
  for (const url of ['/page.js', '/docs', '/docs/', '/docs/json', '/docs/static/swagger-ui.css', '/docs/static/swagger-ui-bundle.js', '/docs/static/swagger-initializer.js', '/docs/static/index.html']) {
    t.strictSame(await headersAt(url), page, url)
  }
  t.notMatch((await http.inject({ url: '/docs', headers: { host: 'localhost' } })).body, /<script(?![^>]*src=)|<style| style=| on\w+=/, 'nothing in it is inline')
})

t.test('what is not in the reference is answered as everywhere', async t => {
  const { http, instance } = createApp(parseConfig({}, '/nonexistent'), pino({ level: 'silent' }))
  t.teardown(async () => { await http.close() })
  const headers = { host: 'localhost' }
  const missing = await http.inject({ url: '/docs/static/nothing', headers })
  t.match(missing, { statusCode: 404, headers: { 'agent-instance': instance, 'content-type': /^application\/problem\+json/ } })
  const wrong = await http.inject({ url: '/docs/', method: 'DELETE', headers })
  t.match(wrong, { statusCode: 405, headers: { allow: 'GET, HEAD' } })
})

t.test('every schema that requests are checked with is one', async t => {
  const { http } = createApp(parseConfig({}, '/nonexistent'), pino({ level: 'silent' }))
  t.teardown(async () => { await http.close() })
  const ajv = new Ajv({ strict: false, discriminator: true })
  addFormats.default(ajv)
  const parts: object[] = []
  http.addHook('onRoute', ({ schema = {} }) => {
    for (const part of [schema.body, schema.querystring, schema.params, schema.headers]) if (typeof part === 'object' && part !== null) parts.push(part)
  })
  await http.ready()
  for (const shared of Object.values(http.getSchemas())) ajv.addSchema(shared as object)
  for (const part of parts) t.doesNotThrow(() => ajv.compile(part))
  t.ok(parts.length > 10, `${parts.length} schemas`)
})
