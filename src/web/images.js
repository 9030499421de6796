import { html, nothing } from 'lit-html'
import { repeat } from 'lit-html/directives/repeat.js'
import { badge, bar } from './tasks.js'
import { clock, inThePage, size } from './words.js'

const words = { mend: 'Continue', clean: 'Delete' }
const wordOf = ({ action, task }) => task.kind === 'storage.forgetCopy' ? 'Forget record' : words[action]

/**
 * The images of every domain; those that need something come first.
 *
 * @param tasks those under way: what is told of them elsewhere is not told here, and not with older numbers.
 * @param actions what the buttons do, and whether whoever looks may operate them.
 */
export function images (shelves, tasks, actions) {
  if (shelves.size === 0) return html`<p class="empty">No domain is configured.</p>`
  return [...shelves].map(([domain, shelf]) => html`
    ${shelves.size > 1 || shelf.problem !== undefined ? html`<h3>${domain}</h3>` : nothing}
    ${shelf.problem === undefined ? shelfOf(domain, shelf, tasks, actions) : html`<p class="problem">${shelf.problem}</p>`}`)
}

function shelfOf (domain, shelf, tasks, { mayOperate, fix, copy, more }) {
  // nothing is known is another thing than nothing is there
  if (!shelf.read) return html`<p class="empty">Not read yet.</p>`
  const rows = rowsOf(shelf)
  if (rows.length === 0) return html`<p class="empty">There are no images in ${domain}.</p>`
  return html`
    <ul class="rows">${repeat(rows, ({ image }) => image, row => html`
      <li class="image" data-image=${`${domain}/${row.image}`}>
        <div class="line">
          <strong class="id">${row.image}</strong>
          ${row.state === 'ok' ? nothing : badge(row.state)}
          ${row.entry === undefined ? nothing : html`<span class="when">${size(row.entry.actualSize)} on disk · <time datetime=${row.entry.modifiedAt}>${clock(row.entry.modifiedAt)}</time></span>`}
          ${(mayOperate ? row.fixes ?? [] : []).map(one => html`<button type="button" class=${one.action === 'mend' ? 'strong' : 'quiet'} title=${one.description}
            aria-label=${`${wordOf(one)} ${domain}/${row.image}`} @click=${event => { fix(one, `${domain}/${row.image}`, event.currentTarget) }}>${wordOf(one)}${one.action === 'clean' ? '…' : ''}</button>`)}
          ${row.state === 'ok' && mayOperate ? html`<button type="button" class="quiet" aria-label=${`Copy ${domain}/${row.image}`} @click=${() => { copy(domain, row.image) }}>Copy…</button>` : nothing}
        </div>
        ${row.copy === undefined ? nothing : copyOf(domain, row, tasks)}
        ${row.detail === undefined || canGoOn(row) ? nothing : html`<p class=${row.state === 'ok' ? 'soft' : 'warning'}>${inThePage(row.detail)}</p>`}
      </li>`)}</ul>
    ${shelf.next === undefined ? nothing : html`<button type="button" class="quiet" @click=${() => { more(domain) }}>Show more images of ${domain}</button>`}`
}

/** Buttons and bar say it all then. */
function canGoOn ({ copy, state, fixes = [] }) {
  return copy !== undefined && (state === 'copying' || fixes.some(({ task }) => task.kind === 'storage.mendImage'))
}

function copyOf (domain, { image, state, copy }, tasks) {
  if (state === 'copying' && tasks.some(({ id }) => id === copy.taskId)) return html`<p class="soft">By task ${copy.taskId}, under way above.</p>`
  return html`
    ${bar(`Copied of ${domain}/${image}`, copy.bytesDone, copy.bytesTotal, state)}
    <p class="numbers">${size(copy.bytesDone)} of ${size(copy.bytesTotal)} · by ${copy.host.id}${copy.taskId === undefined ? '' : `, task ${copy.taskId}`} · as of ${clock(copy.checkpointAt)}</p>`
}

/** A copy that is not complete has no file of its name yet, so the rows are those of three lists. */
function rowsOf ({ items, broken, copies }) {
  const rows = new Map(items.map(entry => [entry.image, { image: entry.image, state: 'ok', entry }]))
  const add = (image, members) => { rows.set(image, { ...rows.get(image), image, ...members }) }
  for (const { image, state, copy } of copies) if (state === 'copying' || state === 'interrupted') add(image, { state, copy })
  for (const { image, state, detail, fixes } of broken) add(image, { state, detail, fixes })
  const rank = ({ state }) => ['illegal', 'interrupted', 'copying', 'ok'].indexOf(state)
  return [...rows.values()].sort((a, b) => rank(a) - rank(b) || (a.image < b.image ? -1 : 1))
}
