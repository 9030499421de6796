import { html, nothing } from 'lit-html'
import { badge } from './tasks.js'
import { size } from './words.js'

/** The domains, with their space and health. */
export function domains (all) {
  if (all.length === 0) return html`<p class="empty">No domain is configured.</p>`
  return html`<ul class="rows">${all.map(({ domain, state, path, bytesTotal, bytesFree, detail, leases, warnings = [], local }) => html`
    <li data-domain=${domain}>
      <div class="line"><strong class="id">${domain}</strong>${badge(state)}</div>
      <p class="soft path">${path}${local === true ? ', on this host only' : ''}</p>
      ${bytesTotal === undefined
        ? nothing
        : html`
        <meter aria-label=${`Used space of ${domain}`} min="0" max=${bytesTotal} high=${bytesTotal * 0.9} .value=${bytesTotal - bytesFree}></meter>
        <p class="numbers">${size(bytesFree)} free of ${size(bytesTotal)}</p>`}
      ${detail === undefined ? nothing : html`<p class="problem">${detail}</p>`}
      ${leases?.detail === undefined ? nothing : html`<p class="problem">${leases.detail}</p>`}
      ${warnings.map(warning => html`<p class="warning">${warning}</p>`)}
    </li>`)}</ul>`
}
