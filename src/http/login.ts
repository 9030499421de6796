import { createHash } from 'node:crypto'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Credentials } from '../auth/credentials.ts'
import type { Caller } from '../auth/scope.ts'
import { AppError } from '../errors.ts'
import { cookieName, presentedBy, sessionKeyOf } from './access.ts'
import type { Standing } from './standing.ts'
import type { App } from './types.ts'

/** In the colors of the page, whose own files are for those who are logged in. */
const style = `
:root { color-scheme: light dark; --page: #f4f6f8; --card: #fff; --ink: #1a1f26; --soft: #56606d; --line: #dfe3e8; --run: #0b5cad; --bad: #ad1f18; font: 1rem/1.5 system-ui, sans-serif }
@media (prefers-color-scheme: dark) { :root { --page: #12151a; --card: #1b2027; --ink: #e5e9ee; --soft: #a4aebb; --line: #323943; --run: #82b7f5; --bad: #ff9a90 } }
body { margin: 0; padding: 0 1rem; background: var(--page); color: var(--ink) }
main { max-width: 24rem; margin: 12vh auto 0; padding: 1.25rem 1.5rem; background: var(--card); border: 1px solid var(--line); border-radius: .7rem }
h1 { margin: 0; font-size: 1.15rem }
p { margin: 1rem 0 0; color: var(--soft); font-size: .9rem }
a { color: var(--run) }
label { display: block; margin: 1rem 0 .25rem; color: var(--soft); font-size: .85rem }
input { box-sizing: border-box; width: 100%; font: inherit; padding: .4rem .5rem; border: 1px solid var(--soft); border-radius: .45rem; background: var(--card); color: var(--ink) }
button { font: inherit; font-weight: 600; margin-top: 1rem; padding: .3rem 1.2rem; border: 0; border-radius: .45rem; background: var(--run); color: var(--card); cursor: pointer }
:focus-visible { outline: 2px solid var(--run); outline-offset: 2px }
[role=alert] { border-left: 4px solid var(--bad); padding-left: .75rem; color: var(--bad) }
`

/** Nothing runs in it, and its form goes nowhere else. */
const policy = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(style).digest('base64')}'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'`

/** Guesses are hopeless; this is for the log. Of one address, so many may fail in this time; a valid token always gets in. */
const failures = { max: 10, inMs: 10_000, addresses: 10_000 }

/**
 * Logging in with a browser: the token is exchanged for a cookie, which EventSource sends, too, and which no script can
 * read. A page that gets 401 sends its visitor to /login; POST /logout ends the session, and the streams that it has open.
 */
export function loginRoutes (app: App, credentials: Credentials, standing: Pick<Standing, 'recheck'>): void {
  const logOut = (key: string) => {
    credentials.logOut(key)
    void standing.recheck(key)
  }

  const failed = new Failures()

  app.register(async (routes: App) => {
    // elsewhere it is JSON, whatever curl calls it
    routes.removeContentTypeParser('application/x-www-form-urlencoded')
    routes.addContentTypeParser('application/x-www-form-urlencoded', { parseAs: 'string' }, (_request, body, done) => {
      done(null, Object.fromEntries(new URLSearchParams(body.toString())))
    })
    const open = { scope: 'open', vital: true } as const
    // of any type: strangers get no more of the agent's memory than a token needs
    const bodyLimit = 4096

    routes.get('/login', { schema: { hide: true }, config: open }, async (request, reply) => {
      const next = destination((request.query as Record<string, unknown>)['next'])
      const caller = known(request, credentials)
      // who needs no token has nothing to do here
      if (!credentials.takesTokens) return reply.redirect('/', 303)
      return show(reply, caller === undefined ? form(next) : welcome(caller))
    })

    routes.post('/login', { bodyLimit, schema: { hide: true }, config: open }, async (request, reply) => {
      const { token, next } = (request.body ?? {}) as Record<string, unknown>
      try {
        const { key, caller } = credentials.logIn(typeof token === 'string' ? token.trim() : '')
        request.caller = caller
        // the cookie takes the place of this one, which nobody could end any more
        const before = sessionKeyOf(request)
        if (before !== undefined) logOut(before)
        setCookie(reply, key, 12 * 3600)
        return reply.redirect(destination(next), 303)
      } catch (error) {
        if (!(error instanceof AppError)) throw error
        const retryAfter = failed.count(request.ip)
        if (retryAfter !== undefined) throw new AppError('too-many-requests', 'Too many logins with wrong tokens came from this address. Wait a moment; a valid token gets in at any time.', { members: { retryAfter } })
        request.refusal = error.code
        return show(reply.code(401), form(destination(next), error.message))
      }
    })

    routes.post('/logout', { bodyLimit, schema: { hide: true }, config: open }, async (request, reply) => {
      const key = sessionKeyOf(request)
      // as for everything that a cookie changes; a foreign Origin is refused before
      if (request.headers.origin === undefined) throw new AppError('origin-not-allowed', 'POST /logout must come from the agent\'s own page.')
      // for the log, and before it is nobody's any more
      const caller = known(request, credentials)
      if (caller?.via === 'session') request.caller = caller
      if (key !== undefined) logOut(key)
      setCookie(reply, '', 0)
      return reply.redirect('/login', 303)
    })
  })
}

/** Counts logins that failed, by address, in fixed periods. */
class Failures {
  #byAddress = new Map<string, number>()
  #endsAt = 0

  /** Counts one, and returns after how many seconds the next may be tried when there were too many. */
  count (address: string): number | undefined {
    const now = performance.now()
    if (now >= this.#endsAt || this.#byAddress.size >= failures.addresses) {
      this.#byAddress = new Map()
      this.#endsAt = now + failures.inMs
    }
    const count = (this.#byAddress.get(address) ?? 0) + 1
    this.#byAddress.set(address, count)
    return count > failures.max ? Math.ceil((this.#endsAt - now) / 1000) : undefined
  }
}

function known (request: FastifyRequest, credentials: Credentials): Caller | undefined {
  try {
    return credentials.identify({ ...presentedBy(request), authorization: undefined })
  } catch (error) {
    if (error instanceof AppError) return undefined
    throw error
  }
}

function setCookie (reply: FastifyReply, key: string, seconds: number): void {
  reply.header('set-cookie', `${cookieName}=${key}; Path=/; Max-Age=${seconds}; HttpOnly; SameSite=Strict; Secure`)
}

/** Where to go after the login: an address of this agent, whatever was asked for. */
export function destination (next: unknown): string {
  const here = 'http://here'
  if (typeof next !== 'string' || !next.startsWith('/') || !URL.canParse(next, here)) return '/'
  const { origin, pathname, search } = new URL(next, here)
  // "//evil.example" and "/\evil.example" lead elsewhere
  return origin === here && !pathname.startsWith('//') ? pathname + search : '/'
}

function show (reply: FastifyReply, body: string): FastifyReply {
  return reply.type('text/html; charset=utf-8').header('content-security-policy', policy).header('cross-origin-opener-policy', 'same-origin').header('cache-control', 'no-store').send(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vdsm-tasks: log in</title>
<link rel="icon" href="data:,">
<style>${style}</style>
</head>
<body><main>
<h1>vdsm-tasks</h1>
${body}
</main></body>
</html>
`)
}

function form (next: string, trouble?: string): string {
  return `${trouble === undefined ? '' : `<p role="alert">${escape(trouble)}</p>`}
<form method="post" action="/login">
<label for="token">Token</label>
<input id="token" name="token" type="password" required autofocus autocomplete="current-password" spellcheck="false">
<input type="hidden" name="next" value="${escape(next)}">
<button>Log in</button>
</form>
<p>On the host, <code>vdsm-tasks token create</code> makes one.</p>`
}

function welcome ({ who, scope }: Caller): string {
  return `<p>You are ${escape(who)} and may ${scope}. <a href="/">To the tasks</a></p>
<form method="post" action="/logout"><button>Log out</button></form>`
}

function escape (text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
