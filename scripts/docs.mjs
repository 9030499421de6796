// Writes the documents that are made from the source: docs/configuration.md and docs/errors.md. A test fails when they are old.
import { realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'

const cell = text => String(text).replaceAll('|', '\\|').replaceAll('\n', ' ')
const code = value => `\`${cell(value)}\``

/** The reference of all keys, from the schema that checks them. */
export function configurationReference ({ ConfigSchema, listenerSchemas }) {
  const table = rows => ['| Key | Value | Default | |', '|---|---|---|---|', ...rows].join('\n')
  const groups = Object.entries(ConfigSchema.properties).filter(([, schema]) => schema.type === 'object')
  const single = Object.entries(ConfigSchema.properties).filter(([key, schema]) => schema.type !== 'object' && key !== 'listen' && key !== 'domains')
  const sections = [
    `# Configuration

Made from the schema in \`src/config.ts\` by \`npm run docs\`.

The configuration is a JSON file: \`vdsm-tasks serve --config FILE\`, or its path in \`VDSM_TASKS_CONFIG\`. Every key may be left out.
A key that is not known, or a value that is wrong, keeps the agent from starting, and is named. \`--show-config\` prints what is in
force. Relative paths start at the folder of the file.

${table(rows(single))}`,
    `## \`listen\`

One listener or a list of them; \`{"host": "127.0.0.1", "port": 7480}\` by default. A listener is an address or a unix socket.
A socket file that a dead process left is replaced; one of a living process is not.

${table(Object.values(listenerSchemas).flatMap(schema => rows(Object.entries(schema.properties), 'listen', schema.required)))}`,
    `## \`domains\`

A list. By default it has one domain: ${code(JSON.stringify(ConfigSchema.properties.domains.default[0]))}. Domains must not be nested.

${table(rows(Object.entries(ConfigSchema.properties.domains.items.properties), 'domains[]', ConfigSchema.properties.domains.items.required))}`,
    ...groups.map(([name, schema]) => `## \`${name}\`\n\n${table(rows(Object.entries(schema.properties), name))}`)
  ]
  return sections.join('\n\n') + '\n'
}

function rows (properties, prefix, required = []) {
  return properties.flatMap(([key, schema]) => {
    const name = prefix === undefined ? key : `${prefix}.${key}`
    const fallback = schema.default !== undefined ? code(JSON.stringify(schema.default)) : required.includes(key) ? 'required' : ''
    // what an object, or each of a list of them, has in it
    const inner = schema.type === 'array' ? schema.items : schema
    const inside = inner.properties === undefined ? [] : rows(Object.entries(inner.properties), schema.type === 'array' ? `${name}[]` : name, inner.required)
    return [`| ${code(name)} | ${valueOf(schema)} | ${fallback} | ${cell(schema.description ?? '')} |`, ...inside]
  })
}

function valueOf (schema) {
  if (schema.enum !== undefined) return schema.enum.map(word => code(word)).join(', ')
  if (schema.const !== undefined) return code(schema.const)
  if (schema.type === 'array') return `list of ${valueOf(schema.items)}`
  const words = { integer: 'whole number', number: 'number', boolean: 'true or false', string: 'text' }
  const { minimum, maximum } = schema
  const range = minimum === undefined ? '' : maximum === undefined ? `, at least ${minimum}` : `, ${minimum} to ${maximum}`
  return (words[schema.type] ?? schema.type ?? 'any') + range
}

const advice = {
  400: 'The request is wrong: change it.',
  401: 'Send a token or a certificate that the agent knows.',
  403: 'It is not allowed: ask for more rights, or for the name or origin to be allowed.',
  404: 'Look whether it is there; then the same again.',
  405: 'The request is wrong: change it.',
  408: 'Send it again.',
  409: 'Something is in the way, and `detail` says what. `resource-busy` goes away by itself: wait for `Retry-After`.',
  410: 'Begin the list anew.',
  412: 'Read what is there now, and decide anew.',
  413: 'The request is wrong: change it.',
  415: 'The request is wrong: change it.',
  422: 'Somebody has to look at the image: the same command will fail again.',
  429: 'Send it again after `Retry-After`.',
  431: 'The request is wrong: change it.',
  500: 'Look at the image. An interrupted copy is continued by `storage.mendImage` or by the same PUT.',
  502: 'Look at Gluster; `excerpt` is what it said.',
  503: 'Send it again after `Retry-After`, or when `GET /readyz` is 200.',
  504: 'Send it again later: a command that changes something may be under way. Look first.',
  507: 'Make space; then `storage.mendImage`.'
}

/** Every problem there is, from the catalogue. */
export function errorCatalogue (catalogue) {
  const byStatus = new Map()
  for (const [name, { status, title }] of Object.entries(catalogue)) byStatus.set(status, [...byStatus.get(status) ?? [], [name, title]])
  const sections = [...byStatus].sort(([a], [b]) => a - b).map(([status, problems]) => {
    if (advice[status] === undefined) throw new Error(`scripts/docs.mjs has no advice for status ${status}`)
    return `## ${status}\n\n${advice[status]}\n\n| Code | |\n|---|---|\n${problems.map(([name, title]) => `| ${code(name)} | ${cell(title)} |`).join('\n')}`
  })
  return `# Errors

Made from the catalogue in \`src/errors.ts\` by \`npm run docs\`.

An error is a problem (RFC 9457, \`application/problem+json\`): \`type\` is \`urn:vdsm-tasks:problem:\` and the code, \`title\` the words below,
\`detail\` says what happened, to which object, and what to do next. Decide by \`code\`; words may change. A task that \`failed\` or
was \`rejected\` has the same in \`error\`. A refusal of a PUT (\`rejected\`) has changed nothing.

${sections.join('\n\n')}
`
}

if (realpathSync(process.argv[1]) === import.meta.filename) {
  buildUnlessFresh()
  const [config, { catalogue }] = await Promise.all([import('../dist/config.js'), import('../dist/errors.js')])
  writeFileSync(join(root, 'docs/configuration.md'), configurationReference(config))
  writeFileSync(join(root, 'docs/errors.md'), errorCatalogue(catalogue))
}
