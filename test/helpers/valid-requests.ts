import { readFileSync } from 'node:fs'

interface Schema { enum?: string[], type?: string, examples?: unknown[], oneOf?: Array<{ $ref: string }> }
interface Parameter { in: 'path' | 'query' | 'header', name: string, schema: Schema }
interface Operation { parameters?: Parameter[], requestBody?: object }
interface Document { paths: Record<string, Record<string, Operation>>, components: { schemas: Record<string, Schema> } }

/** A request that the document allows. */
export interface ValidRequest {
  method: string
  path: string
  query: Array<[name: string, value: string]>
  headers: Array<[name: string, value: string]>
  /** What bodies it may have; none for most. */
  bodies: unknown[]
}

/** What is in none of the schemas; the rest is any word. */
const values: Record<string, string> = Object.fromEntries([
  ['id', 'valid'], ['domain', 'local'], ['image', 'sample.raw'], ['operationId', '6a9e0a62-0c2c-4c5e-8f29-5a1d0c1e2f3a'], ['limit', '10'], ['dryRun', 'true'], ['state', 'active'], ['kind', 'storage.copyImage'],
  ['type', 'task,progress'], ['prefer', 'respond-async'], ['if-match', '*'], ['if-none-match', '"x.y.1.1"'], ['agent-instance', 'feedfacecafe'], ['taskId', 'valid'], ['idPrefix', 'v'], ['lastEventId', 'x-1']
])

const { paths, components: { schemas } } = JSON.parse(readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8')) as Document
const commands = (schemas['TaskSpec']?.oneOf ?? []).flatMap(({ $ref }) => schemas[$ref.split('/').at(-1) ?? '']?.examples ?? [])

/** One of every route of the document, with all that it takes, and those of people with a browser. Made from the document: a route that is added is among them. */
export const validRequests: ValidRequest[] = [
  ...Object.entries(paths).flatMap(([path, operations]) => Object.entries(operations).map(([method, { parameters = [], requestBody }]): ValidRequest => {
    const of = (where: Parameter['in']) => parameters.filter(parameter => parameter.in === where).map(({ name, schema }): [string, string] => [name, schema.enum?.[0] ?? values[name] ?? 'x'])
    return {
      method: method.toUpperCase(),
      path: of('path').reduce((path, [name, value]) => path.replace(`{${name}}`, value), path),
      query: of('query'),
      headers: of('header'),
      bodies: requestBody === undefined ? [] : method === 'patch' ? [{ bandwidth: 1 }, { bandwidth: null }] : commands
    }
  })),
  ...['/', '/page.js', '/docs', '/docs/', '/docs/static/index.html', '/login'].map((path): ValidRequest => ({ method: 'GET', path, query: [], headers: [], bodies: [] })),
  { method: 'POST', path: '/login', query: [], headers: [['content-type', 'application/x-www-form-urlencoded']], bodies: ['token=x&next=/'] },
  { method: 'POST', path: '/logout', query: [], headers: [['origin', 'http://localhost']], bodies: [''] }
]
