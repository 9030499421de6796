// Writes openapi/openapi.json, made from the routes, and the types of the client, made from that.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import openapiTypescript, { astToString, COMMENT_HEADER } from 'openapi-typescript'
import { pino } from 'pino'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'

buildUnlessFresh()
const { createApp } = await import('../dist/app.js')
const { parseConfig } = await import('../dist/config.js')
const { http } = createApp(parseConfig({}, root), pino({ level: 'silent' }))
await http.ready()
const document = JSON.stringify(http.swagger(), undefined, 2) + '\n'
writeFileSync(join(root, 'openapi/openapi.json'), document)
const types = astToString(await openapiTypescript(document))
writeFileSync(join(root, 'src/client/openapi.d.ts'), COMMENT_HEADER + types)
await http.close()
