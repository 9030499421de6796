// Makes the pictures of the README from the real thing: docs/page.png (the page in Chromium) and docs/cli.svg (what the command
// line draws on a terminal). npm run pictures, after a change that they show.
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { chromium } from 'playwright-core'
import { buildUnlessFresh } from './build.mjs'
import { root } from './step.mjs'

const MiB = 1024 * 1024
/** How long copies run before they are shown: the curve needs something to show. */
const showAfterMs = 30_000

buildUnlessFresh()
const folder = mkdtempSync(join(tmpdir(), 'vdsm-tasks-pictures-'))
const agent = await startAgent()
try {
  await put('nightly-41', copy('db.qcow2'), 60)
  await put('web-disk', copy('web.raw', 2 * MiB))
  await sleep(6000)
  await fetch(`${agent.url}/tasks/web-disk`, { method: 'DELETE' })
  await put('mail-disk', { ...copy('mail.raw'), source: { domain: 'local', image: 'gone.raw' } })
  await put('nightly-42', copy('nightly.raw', 900_000))
  await sleep(showAfterMs / 2)
  await put('nightly-43', copy('archive.raw', 1_300_000))
  await sleep(showAfterMs / 2)
  const [frame] = await Promise.all([frameOf(['wait', 'nightly-42', 'nightly-43']), pictureOfPage()])
  writeFileSync(join(root, 'docs/cli.svg'), svgOf('vdsm-tasks wait nightly-42 nightly-43', frame))
} finally {
  agent.process.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
}

async function startAgent () {
  const config = join(folder, 'config.json')
  writeFileSync(config, JSON.stringify({ listen: { port: 0 }, hostId: 'node1', domains: [{ id: 'local', path: join(folder, 'images'), create: true, sample: true }] }))
  const child = spawn(process.execPath, [join(root, 'dist/main.js'), '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  for await (const line of createInterface(child.stderr)) {
    const url = /listens on (http:\S+?),?(?: |$)/.exec(line)?.[1]
    if (url === undefined) continue
    child.stderr.resume()
    while (!(await fetch(`${url}/domains/local/images/sample.raw`)).ok) await sleep(200)
    return { process: child, url }
  }
  throw new Error('the agent did not start')
}

function copy (image, bandwidth) {
  return { kind: 'storage.copyImage', source: { domain: 'local', image: 'sample.raw' }, target: { domain: 'local', image }, ...(bandwidth !== undefined && { bandwidth }) }
}

async function put (id, spec, waitSeconds) {
  const { status } = await fetch(`${agent.url}/tasks/${id}`, { method: 'PUT', headers: { 'content-type': 'application/json' }, body: JSON.stringify(spec) })
  if (status >= 400 && status !== 404) throw new Error(`${id} was refused with ${status}`)
  if (waitSeconds !== undefined) await fetch(`${agent.url}/tasks/${id}`, { headers: { prefer: `wait=${waitSeconds}` } })
}

async function pictureOfPage () {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'] })
  try {
    const page = await browser.newPage({ viewport: { width: 1060, height: 640 } })
    await page.goto(agent.url)
    await page.locator('#curve canvas').waitFor()
    await sleep(showAfterMs)
    await page.screenshot({ path: join(root, 'docs/page.png'), fullPage: true })
  } finally {
    await browser.close()
  }
}

/** The last lines that a command has drawn on a terminal of 100 columns after a while. */
async function frameOf (args) {
  const command = `stty cols 100 rows 20; exec '${process.execPath}' '${join(root, 'dist/cli/main.js')}' ${args.join(' ')}`
  const terminal = spawn('script', ['-qfec', command, '/dev/null'], { stdio: ['pipe', 'pipe', 'ignore'], env: { PATH: process.env.PATH, TERM: 'xterm-256color', VDSM_TASKS_URL: agent.url } })
  let drawn = ''
  terminal.stdout.setEncoding('utf8').on('data', text => { drawn += text })
  await sleep(10_000)
  terminal.kill()
  // the terminal is redrawn from where it was erased: what is whole is before the last time
  const frame = drawn.split('\r\x1b[2K').filter(frame => /[█░]/.test(frame)).at(-1)
  if (frame === undefined) throw new Error(`the command line drew no bars: ${JSON.stringify(drawn)}`)
  return frame.replaceAll('\r', '').replace(/\x1b\[\d*[AK]/g, '').trimEnd().split('\n') // eslint-disable-line no-control-regex
}

function svgOf (command, lines) {
  const colors = { 2: '#6e7681', 36: '#39c5cf', 32: '#56d364', 31: '#ff7b72', 33: '#e3b341' }
  // runs of spaces would be shown as one
  const escape = text => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll(' ', '\u00a0')
  const spans = line => line.split(/\x1b\[([\d;]*)m/).map((part, index, parts) => { // eslint-disable-line no-control-regex
    if (index % 2 === 1 || part === '') return ''
    const color = colors[parts[index - 1]]
    return color === undefined ? escape(part) : `<tspan fill="${color}">${escape(part)}</tspan>`
  }).join('')
  const rows = [`\x1b[2m$\x1b[0m ${command}`, ...lines]
  const height = rows.length * 22 + 32
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 ${height}" width="900" height="${height}" role="img" aria-label="A terminal with the bars of two copies">
<rect width="900" height="${height}" rx="10" fill="#0d1117"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', monospace" font-size="14" fill="#e6edf3">
${rows.map((line, index) => `<text x="20" y="${34 + index * 22}" textLength="${visible(line) * 8.6}" lengthAdjust="spacingAndGlyphs">${spans(line)}</text>`).join('\n')}
</g>
</svg>
`
}

function visible (line) {
  return line.replace(/\x1b\[[\d;]*m/g, '').length // eslint-disable-line no-control-regex
}
