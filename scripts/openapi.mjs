// Writes openapi/openapi.json, made from the routes.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'

buildUnlessFresh()
const { createApp } = await import('../dist/app.js')
const { parseConfig } = await import('../dist/config.js')
const { http } = createApp(parseConfig({}, root), pino({ level: 'silent' }))
await http.ready()
writeFileSync(join(root, 'openapi/openapi.json'), JSON.stringify(http.swagger(), undefined, 2) + '\n')
await http.close()
