import { fileURLToPath } from 'node:url'
import files from '@fastify/static'
import { programFolder } from '../location.ts'
import type { App } from './types.ts'

/** Everything the page needs comes from here, and nothing else may run in it. */
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

/** The web page at `/`. */
export async function pageRoutes (app: App): Promise<void> {
  // the page's own, which it cannot declare itself
  app.addHook('onRoute', route => { route.config = { ...route.config, scope: 'read' } })
  await app.register(files, {
    root: fileURLToPath(new URL('web/', programFolder)),
    wildcard: false,
    decorateReply: false,
    cacheControl: false,
    setHeaders: reply => {
      reply.header('content-security-policy', policy)
      reply.header('x-content-type-options', 'nosniff')
      // whoever opens it in a window gets no handle to that
      reply.header('cross-origin-opener-policy', 'same-origin')
      // an upgraded agent must not be shown by an old page
      reply.header('cache-control', 'no-cache')
    }
  })
}
