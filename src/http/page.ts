import { fileURLToPath } from 'node:url'
import files from '@fastify/static'
import { programFolder } from '../location.ts'
import { pageHeaders } from './headers.ts'
import type { App } from './types.ts'

/** The web page at `/`. */
export async function pageRoutes (app: App): Promise<void> {
  // the page's own, which it cannot declare itself
  app.addHook('onRoute', route => { route.config = { ...route.config, scope: 'read' } })
  await app.register(files, {
    root: fileURLToPath(new URL('web/', programFolder)),
    wildcard: false,
    decorateReply: false,
    cacheControl: false,
    setHeaders: reply => { for (const [name, value] of Object.entries(pageHeaders)) reply.header(name, value) }
  })
}
