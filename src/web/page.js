// The page lives from one EventSource. The browser reconnects by itself and says where it left off; `reset` means that
// what is shown may not hold any more, and that all that still holds follows.

const tasks = new Map()
let instance

const byId = id => document.getElementById(id)
const body = document.querySelector('#tasks tbody')

const source = new EventSource('events')
source.addEventListener('open', () => connection('live', 'live'))
source.addEventListener('error', () => connection('broken', 'the stream is broken, trying again'))
source.addEventListener('bye', () => connection('broken', 'the agent is stopping'))
source.addEventListener('busy', () => connection('broken', 'the agent has too many streams, trying again in a while'))
source.addEventListener('reset', () => {
  tasks.clear()
  draw()
})
source.addEventListener('task', ({ data }) => {
  const task = JSON.parse(data)
  welcome(task.instance)
  tasks.set(task.id, task)
  draw()
})
source.addEventListener('progress', ({ data }) => {
  const { id, runId, progress } = JSON.parse(data)
  const task = tasks.get(id)
  if (task?.runId !== runId) return
  task.progress = progress
  draw()
})
source.addEventListener('forgotten', ({ data }) => {
  tasks.delete(JSON.parse(data).id)
  draw()
})
source.addEventListener('synced', async () => {
  const agent = await (await fetch('agent')).json()
  byId('host').textContent = `on ${agent.hostId}, version ${agent.version}`
  welcome(agent.instance)
})

// finished tasks expire without an event: their time is known
setInterval(() => {
  const now = Date.now()
  const expired = [...tasks.values()].filter(({ expiresAt }) => expiresAt !== undefined && Date.parse(expiresAt) < now)
  for (const { id } of expired) tasks.delete(id)
  if (expired.length > 0) draw()
}, 1000)

function connection (kind, words) {
  byId('connection').className = kind
  byId('connection').textContent = words
}

function welcome (current) {
  if (instance !== undefined && instance !== current) {
    byId('notice').hidden = false
    byId('notice').textContent = 'The agent was restarted and has forgotten its tasks. Images are on the storage: an interrupted copy can be continued, see the fixes of its domain.'
  }
  instance = current
}

let drawing = false
function draw () {
  if (drawing) return
  drawing = true
  requestAnimationFrame(() => {
    drawing = false
    const rows = [...tasks.values()].sort((a, b) => b.createdAt.localeCompare(a.createdAt) || b.runId.localeCompare(a.runId))
    byId('empty').hidden = rows.length > 0
    byId('tasks').hidden = rows.length === 0
    body.replaceChildren(...rows.map(row))
  })
}

function row (task) {
  const state = element('td', task.state, `state-${task.state}`)
  if (task.error !== undefined) state.append(element('span', task.error.detail, 'numbers'))
  const line = element('tr')
  line.append(element('th', task.id), element('td', what(task.spec)), state, progressCell(task))
  line.firstChild.scope = 'row'
  return line
}

function progressCell (task) {
  const cell = element('td')
  const { progress } = task
  if (progress === undefined) return cell
  if (progress.phase === 'queued') {
    cell.textContent = `waiting, position ${progress.queuePosition}`
    return cell
  }
  const bar = element('progress')
  bar.max = progress.bytesTotal || 1
  bar.value = progress.bytesTotal === 0 ? 1 : progress.bytesDone
  bar.setAttribute('aria-label', `progress of ${task.id}`)
  const running = task.endedAt === undefined
  const numbers = [
    `${progress.phase === 'verifying' ? 'verifying ' : ''}${size(progress.bytesDone)} of ${size(progress.bytesTotal)}`,
    running && progress.bytesPerSecond !== undefined ? `${size(progress.bytesPerSecond)}/s` : '',
    running && progress.stalledSince !== undefined ? 'the storage does not answer' : '',
    running && progress.etaSeconds !== undefined ? `${progress.etaSeconds} s left` : ''
  ]
  cell.append(bar, element('span', numbers.filter(words => words !== '').join(', '), 'numbers'))
  return cell
}

function what (spec) {
  const verb = spec.kind.split('.')[1]
  if (spec.target !== undefined) return `${verb} ${spec.source.domain}/${spec.source.image} to ${spec.target.domain}/${spec.target.image}`
  return spec.volume === undefined ? `${verb} ${spec.domain}/${spec.image}` : `${verb} ${spec.volume}`
}

function size (bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  const power = bytes === 0 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1)
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`
}

function element (name, text = '', className = '') {
  const made = document.createElement(name)
  made.textContent = text
  made.className = className
  return made
}
