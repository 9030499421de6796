import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Page } from 'playwright-core'
import t from 'tap'
import { isAccessible } from '../helpers/axe.ts'
import { openPage } from '../helpers/browser.ts'
import { startServe } from '../helpers/serve.ts'
import { secure } from '../helpers/secured.ts'

t.setTimeout(180_000)

const secured = await secure(t)
const { tokens } = secured
const agent = await startServe(t, secured.directory, secured.config)
const [secureUrl = '', plainUrl = ''] = agent.addresses
const page = await openPage(t, { anyCertificate: true })
const violations: string[] = []
page.on('console', message => { if (message.text().includes('Content Security Policy')) violations.push(message.text()) })

async function tasks (): Promise<string[]> {
  const reply = await fetch(`${plainUrl}/tasks`, { headers: { authorization: `Bearer ${tokens.read}` } })
  return ((await reply.json()) as { items: Array<{ id: string }> }).items.map(({ id }) => id)
}

async function logIn (page: Page, address: string, token: string): Promise<void> {
  await page.goto(address)
  await page.getByLabel('Token').fill(token)
  await page.getByRole('button', { name: 'Log in' }).click()
}

for (const [name, address] of [['TLS', secureUrl], ['plain HTTP on loopback', plainUrl]] as const) {
  t.test(`a person logs in with a token and follows the events, over ${name}`, async t => {
    await logIn(page, `${address}/?x=1`, 'wrong')
    await page.getByRole('alert').waitFor()
    await page.getByLabel('Token').fill(tokens.operate)
    await page.getByRole('button', { name: 'Log in' }).click()
    await page.getByText('Live', { exact: true }).waitFor()
    t.equal(page.url(), `${address}/?x=1`, 'where they wanted to go')
    const [cookie, ...more] = await page.context().cookies()
    t.match(cookie, { name: '__Host-vdsm-tasks', httpOnly: true, secure: true, sameSite: 'Strict', path: '/' })
    t.same(more, [])
    t.equal(await page.evaluate('document.cookie'), '', 'no script can read it')
    const put = `fetch('/tasks/${name === 'TLS' ? 'by-tls' : 'by-tcp'}', { method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"kind":"storage.deleteImage","domain":"local","image":"none.raw"}' }).then(reply => reply.status)`
    t.equal(await page.evaluate(put), 404, 'they may operate')
    t.equal(await page.evaluate("fetch('/agent/config').then(reply => reply.status)"), 403, 'but nothing more')
    await page.goto(`${address}/docs`)
    await page.getByText('/tasks/{id}').first().waitFor()
    await page.goto(`${address}/login`)
    await page.getByText('You are the-operate').waitFor()
    // from there, or from the page itself
    if (name === 'TLS') await page.goto(address)
    await page.getByRole('button', { name: 'Log out' }).click()
    await page.getByLabel('Token').waitFor()
    t.same(await page.context().cookies(), [])
    await page.goto(`${address}/tasks`)
    t.match(page.url(), /\/login\?next=%2Ftasks$/)
    t.same(violations, [], 'the pages keep to their own policy')
  })
}

t.test('who may only look is offered nothing else, and who is logged out is told so and logs in again', async t => {
  const page = await openPage(t)
  const wrong: string[] = []
  page.on('pageerror', error => { wrong.push(String(error)) })
  await page.addInitScript('window.streams = []; window.EventSource = class extends EventSource { constructor (url) { super(url); window.streams.push(this) } }')
  await page.goto(plainUrl)
  await page.getByLabel('Token').waitFor()
  await isAccessible(t, page, 'login')
  await logIn(page, plainUrl, 'wrong')
  await page.getByRole('alert').waitFor()
  await isAccessible(t, page, 'login refused')
  await page.getByLabel('Token').fill(tokens.read)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByText('the-read, may read').waitFor()
  const put = async (id: string, spec: object) => await fetch(`${plainUrl}/tasks/${id}`, { method: 'PUT', headers: { authorization: `Bearer ${tokens.operate}`, 'content-type': 'application/json', prefer: 'wait=30' }, body: JSON.stringify(spec) })
  await put('disk', { kind: 'storage.createImage', domain: 'local', image: 'disk.raw', virtualSize: 64 * 1024 * 1024, allocation: 'preallocated' })
  t.equal((await put('slow', { kind: 'storage.copyImage', source: { domain: 'local', image: 'disk.raw' }, target: { domain: 'local', image: 'slow.raw' }, bandwidth: 1, verify: true })).status, 202)
  await page.locator('#running [data-task=slow]').waitFor()
  await page.locator('[data-image="local/disk.raw"]').waitFor()
  await page.getByText('You are the-read and may only look.').waitFor()
  t.same(await page.getByRole('button').allTextContents(), ['Log out'], 'nothing to press that would be refused')
  await isAccessible(t, page, 'read-only scope')

  const other = await page.context().newPage()
  await other.goto(`${plainUrl}/login`)
  await isAccessible(t, other, 'logged in')
  await other.getByRole('button', { name: 'Log out' }).click()
  await other.getByLabel('Token').waitFor()
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  await page.getByText('You are not logged in any more').first().waitFor()
  await isAccessible(t, page, 'logged out')
  // in another tab, from which they come back to this one twice in a moment
  await logIn(other, `${plainUrl}/login`, tokens.operate)
  await other.getByText('the-operate, may operate').waitFor()
  const open = await page.evaluate(`(() => {
    for (const _ of [1, 2]) document.dispatchEvent(new Event('visibilitychange'))
    return window.streams.filter(({ readyState }) => readyState !== EventSource.CLOSED).length
  })()`)
  t.equal(open, 1, 'there is one stream')
  await page.getByText('the-operate, may operate').waitFor()
  await other.getByRole('button', { name: 'Log out' }).click()
  await other.getByLabel('Token').waitFor()
  await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))')
  await page.getByText('You are not logged in any more').first().waitFor()
  await page.getByRole('link', { name: 'Log in' }).click()
  await page.getByLabel('Token').fill(tokens.operate)
  await page.getByRole('button', { name: 'Log in' }).click()
  await page.getByText('the-operate, may operate').waitFor()
  t.same(wrong, [], 'nothing went wrong in the page')
  await page.getByRole('button', { name: 'Cancel slow' }).click()
  await page.locator('#results [data-task=slow]').getByText('canceled', { exact: true }).waitFor()
})

/** Everything that a page can try with an agent, and what it has got. The last one leaves the page. */
const attack = (agent: string) => `(async () => {
  const agent = ${JSON.stringify(agent)}
  const body = '{"kind":"storage.createImage","domain":"local","image":"evil.raw","virtualSize":1048576}'
  const got = []
  // what is refused got nothing, which is the point
  const attempt = async (name, work) => { try { const result = await work(); if (result !== undefined) got.push(name + ': ' + result) } catch {} }
  for (const credentials of ['omit', 'include']) {
    for (const mode of ['cors', 'no-cors']) {
      for (const path of ['/tasks', '/agent', '/', '/healthz']) await attempt('GET ' + path, async () => { const reply = await fetch(agent + path, { mode, credentials }); return reply.type === 'opaque' ? undefined : await reply.text() })
      await attempt('POST', async () => { const reply = await fetch(agent + '/tasks/evil', { method: 'POST', mode, credentials, headers: { 'content-type': 'text/plain' }, body }); return reply.type === 'opaque' ? undefined : reply.status })
      await attempt('logout', async () => { const reply = await fetch(agent + '/logout', { method: 'POST', mode, credentials, redirect: 'manual' }); return reply.type.startsWith('opaque') ? undefined : reply.status })
      for (const method of ['PUT', 'DELETE', 'PATCH']) await attempt(method, async () => (await fetch(agent + '/tasks/evil', { method, mode, credentials, headers: { 'content-type': 'application/json' }, body: method === 'DELETE' ? undefined : body })).status)
    }
  }
  await attempt('XHR', () => new Promise((resolve, reject) => { const xhr = new XMLHttpRequest(); xhr.open('GET', agent + '/tasks'); xhr.withCredentials = true; xhr.onload = () => resolve(xhr.responseText); xhr.onerror = reject; xhr.send() }))
  for (const withCredentials of [true, false]) await attempt('EventSource', () => new Promise((resolve, reject) => { const source = new EventSource(agent + '/events', { withCredentials }); source.onopen = () => resolve('open'); source.onmessage = () => resolve('message'); source.onerror = () => { source.close(); reject() } }))
  for (const [tag, path, attribute] of [['script', '/page.js', 'src'], ['script', '/openapi.json', 'src'], ['img', '/healthz', 'src'], ['link', '/style.css', 'href']]) {
    await attempt(tag, () => new Promise((resolve, reject) => { const element = document.createElement(tag); element.onload = () => resolve(path + ' loaded'); element.onerror = reject; if (tag === 'link') element.rel = 'stylesheet'; element[attribute] = agent + path; document.head.append(element) }))
  }
  await attempt('iframe', () => new Promise(resolve => { const frame = document.createElement('iframe'); frame.onload = () => { let text; try { text = frame.contentDocument?.body?.textContent || undefined } catch {} resolve(text) }; frame.src = agent + '/'; document.body.append(frame) }))
  await attempt('WebSocket', () => new Promise((resolve, reject) => { const socket = new WebSocket(agent.replace('http', 'ws') + '/events'); socket.onopen = () => resolve('open'); socket.onmessage = () => resolve('message'); socket.onerror = reject }))
  navigator.sendBeacon(agent + '/tasks/evil', new Blob([body], { type: 'text/plain' }))
  navigator.sendBeacon(agent + '/logout')
  // its origin is "null"
  await attempt('sandbox', () => new Promise((resolve, reject) => {
    addEventListener('message', ({ data }) => data === 'nothing' ? reject() : resolve(data), { once: true })
    const frame = document.createElement('iframe')
    frame.sandbox = 'allow-scripts allow-forms'
    frame.srcdoc = '<script>Promise.any([fetch(' + JSON.stringify(agent + '/tasks') + ', { credentials: "include" }).then(reply => reply.text()), fetch(' + JSON.stringify(agent + '/tasks/evil') + ', { method: "PUT", credentials: "include", headers: { "content-type": "application/json" }, body: ' + JSON.stringify(body) + ' }).then(reply => reply.status)]).then(got => parent.postMessage(String(got), "*"), () => parent.postMessage("nothing", "*"))<' + '/script>'
    document.body.append(frame)
  }))
  for (const [tag, attribute] of [['object', 'data'], ['embed', 'src']]) {
    await attempt(tag, () => new Promise((resolve, reject) => { const element = document.createElement(tag); element.onload = () => { try { resolve(element.contentDocument?.body?.textContent || undefined) } catch { reject() } }; element.onerror = reject; setTimeout(reject, 300); element[attribute] = agent + '/'; document.body.append(element) }))
  }
  const opened = window.open(agent + '/login')
  await new Promise(resolve => setTimeout(resolve, 500))
  await attempt('window', () => opened?.document?.body?.textContent || undefined)
  await attempt('window that is counted', () => opened === null || opened.closed ? undefined : opened.location.href || 'open')
  opened?.close()
  return got
})()`

t.test('a page of another origin can neither read nor change anything, with a session or without', async t => {
  const foreign = createServer((_request, response) => { response.setHeader('content-type', 'text/html').end('<!doctype html><title>evil</title><body>') }).listen(0, '127.0.0.1')
  t.teardown(() => { foreign.close() })
  await once(foreign, 'listening')
  const { port } = foreign.address() as AddressInfo
  for (const session of [false, true]) {
    if (session) {
      await logIn(page, plainUrl, tokens.admin)
      await page.getByText('Live', { exact: true }).waitFor()
    }
    const before = await tasks()
    // another site, and another port of the same host, whose requests carry even SameSite cookies
    for (const origin of [`http://localhost:${port}`, `http://127.0.0.1:${port}`]) {
      await page.goto(origin)
      t.same(await page.evaluate(attack(plainUrl)), [], `${origin}, ${session ? 'with' : 'without'} a session`)
      // a form needs no permission to be sent
      for (const [action, fields] of [['/logout', ''], ['/login', '<input name=token value=x>'], ['/tasks/evil', '<input name=\'{"kind":"storage.deleteImage","domain":"local","image":"x.raw","y":"\' value=\'"}\'>']]) {
        await page.goto(origin)
        const arrived = page.waitForResponse(response => response.url().startsWith(plainUrl))
        await page.evaluate(`document.body.innerHTML = ${JSON.stringify(`<form method=post action="${plainUrl}${action}">${fields}</form>`)}; document.forms[0].submit()`)
        t.equal((await arrived).status(), 403, `a form for ${action}`)
        await page.waitForURL(url => url.href.startsWith(plainUrl))
      }
    }
    t.same(await tasks(), before, 'nothing was begun')
    if (!session) continue
    await page.goto(plainUrl)
    await page.getByText('Live', { exact: true }).waitFor()
    t.pass('and the session is as it was')
  }
})

t.test('a name that leads to the agent, but is not its own, gets nothing', async t => {
  // what was another server's a moment ago is the agent's address now
  const server = createServer((_request, response) => { response.setHeader('content-type', 'text/html').end('<!doctype html><title>evil</title><body>') }).listen(0, '127.0.0.1')
  t.teardown(() => { server.close() })
  await once(server, 'listening')
  await page.goto(`http://rebound.example:${(server.address() as AddressInfo).port}`)
  t.same(await page.evaluate(attack(plainUrl.replace('127.0.0.1', 'rebound.example'))), [])
  const reply = await page.goto(plainUrl.replace('127.0.0.1', 'rebound.example'))
  t.equal(reply?.status(), 403)
  t.match(await reply?.json(), { code: 'host-not-allowed' })
})
