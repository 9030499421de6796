import { html, nothing, render } from 'lit-html'
import { Curve } from './curve.js'
import { domains } from './domains.js'
import { images } from './images.js'
import { Live } from './live.js'
import { operations } from './operations.js'
import { cancelTask, read, sendTask } from './requests.js'
import { StartForm } from './start.js'
import { results, running } from './tasks.js'
import { clock, seconds, size, what } from './words.js'

/** Of forgotten tasks. */
const namedAtMost = 20

const byId = id => document.getElementById(id)

/** What was refused that the page was told to do. */
let refusal
/** The lists that somebody wants to see in full. */
const whole = new Set()
/** The fix that waits for a yes, and the button that asked for it. */
let asked
let drawing = false

const live = new Live(draw)
const start = new StartForm(byId('start'), live)
const curve = new Curve(byId('curve'))

draw()
// nothing is known of how fast copies are while the agent does not say it
setInterval(() => { if (live.connection.state === 'live') curve.add(throughput()) }, 1000)

/** At most once a frame, however many events come. */
function draw () {
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    drawNow()
  })
}

function drawNow () {
  const { connection, agent, active, finished } = live
  render(html`<span class="dot"></span>${connection.words}`, byId('connection'))
  byId('connection').className = connection.state
  // what is shown is old then
  document.body.classList.toggle('stale', isStale())
  render(who(), byId('caller'))
  byId('host').textContent = agent === undefined ? '' : `${agent.hostId} · version ${agent.version} · since ${clock(agent.startedAt)}`
  byId('retention').textContent = agent === undefined ? '' : `kept for ${seconds(agent.limits.retentionSeconds)}`
  document.title = `${active.length > 0 ? `(${active.length}) ` : ''}${agent?.hostId ?? ''} vdsm-tasks`.trim()
  const rate = connection.state === 'live' ? throughput() : 0
  byId('throughput').textContent = rate === 0 ? '' : `${size(rate)}/s`
  render(notices(), byId('notices'))
  const { mayOperate } = live
  render(running(active, { ...showAll('running'), ...(mayOperate && { cancel: task => { void attempt(() => cancelTask(task)) } }) }), byId('running'))
  if (live.looked) render(images(live.shelves, live.active, { mayOperate, fix, copy: (domain, image) => { start.fill(domain, image) }, more: domain => { void live.more(domain) } }), byId('images'))
  render(results(finished, showAll('results')), byId('results'))
  if (live.looked) render(domains(live.domains), byId('domains'))
  if (live.glusterAsked) render(operations([...live.operations.values()], live.glusterProblem), byId('gluster'))
  render(question(), byId('dialogs'))
  start.draw()
  if (byId('said').textContent !== live.said) byId('said').textContent = live.said
}

function showAll (list) {
  return whole.has(list) ? {} : { showAll: () => { whole.add(list); draw() } }
}

function throughput () {
  return live.active.reduce((sum, { progress }) => sum + (progress?.phase === 'copying' && progress.stalledSince === undefined ? progress.bytesPerSecond ?? 0 : 0), 0)
}

function isStale () {
  return ['broken', 'silent', 'out'].includes(live.connection.state)
}

/** Who looks at the page; only a session can be ended. */
function who () {
  const { caller, connection } = live
  if (caller === undefined || connection.state === 'out' || caller.who === 'local') return nothing
  return html`<span>${caller.who}, may ${caller.scope}</span>${caller.via === 'session' ? html`<form method="post" action="logout"><button class="quiet">Log out</button></form>` : nothing}`
}

function notices () {
  const { connection, restart } = live
  return html`
    <div role="alert">${isStale()
      ? html`<div class="note bad"><p><strong>${connection.words}.</strong> What is shown is as it was at ${clock(live.heardAt)}; copies on the host may go on.</p>${connection.state === 'out' ? html`<a class="button strong" href=${`login?next=${encodeURIComponent(location.pathname + location.search)}`}>Log in</a>` : nothing}</div>`
      : nothing}</div>
    <div role="alert">${restart === undefined ? nothing : restartNote(restart)}</div>
    <div role="alert">${refusal === undefined ? nothing : html`<div class="note bad"><p>${refusal}</p><button type="button" class="quiet" @click=${() => { refusal = undefined; draw() }}>Dismiss</button></div>`}</div>`
}

function restartNote ({ at, forgotten }) {
  return html`<div class="note">
    <div>
      <p><strong>The agent was restarted and has forgotten its tasks</strong> (${clock(at)}). Images are on the storage: a copy that was under way is <em>interrupted</em> below and can be continued.</p>
      ${forgotten.length === 0 ? nothing : html`<p>Forgotten while under way:</p><ul>${forgotten.slice(0, namedAtMost).map(({ id, spec, progress }) => html`<li><strong>${id}</strong>: ${what(spec)}${progress?.phase === 'queued' ? ' (waited for its turn: to be started anew)' : ''}</li>`)}</ul>`}
      ${forgotten.length > namedAtMost ? html`<p>and ${forgotten.length - namedAtMost} more.</p>` : nothing}
    </div>
    <button type="button" class="quiet" @click=${() => { live.dismissRestart() }}>Dismiss</button>
  </div>`
}

/** Continuing harms nothing; deleting is asked about. */
function fix (one, name, button) {
  if (one.action === 'mend') {
    void attempt(() => sendTask(one.task))
    return
  }
  asked = { one, name, button }
  drawNow()
  byId('question').showModal()
}

function question () {
  if (asked === undefined) return nothing
  const { one, name, button } = asked
  const close = () => { byId('question').close() }
  const closed = ({ target }) => {
    // told a moment later: by then somebody quick has opened it again
    if (target.open) return
    asked = undefined
    draw()
    button.focus()
  }
  return html`<dialog id="question" aria-labelledby="question-title" @close=${closed}>
    <h2 id="question-title">Delete ${name}?</h2>
    <p>${one.description}</p>
    <div class="buttons">
      <button type="button" class="quiet" autofocus @click=${close}>Keep it</button>
      <button type="button" class="danger" @click=${() => { close(); void attempt(() => clean(one, name)) }}>Delete</button>
    </div>
  </dialog>`
}

/** While the question was open, somebody may have completed what is unfinished: the same command would delete an image that is good now. */
async function clean (one, name) {
  const { fixes } = await read(`domains/${one.task.domain}/images/${encodeURIComponent(one.task.image)}`)
  const still = fixes.some(({ task, description }) => description === one.description && JSON.stringify(task) === JSON.stringify(one.task))
  if (!still) throw new Error(`${name} is not what it was any more: nothing was deleted. Look at it again.`)
  await sendTask(one.task)
}

async function attempt (action) {
  try {
    await action()
    refusal = undefined
  } catch (error) {
    refusal = error.message
  }
  draw()
}
