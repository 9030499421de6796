import { html, nothing } from 'lit-html'
import { badge } from './tasks.js'
import { clock, seconds, size } from './words.js'

/** What Gluster does on its volumes, host by host. */
export function operations (all, problem) {
  if (problem !== undefined) return html`<p class="empty">${problem.code === 'gluster-unavailable' ? 'This host does not belong to a Gluster cluster, or its daemon does not run.' : problem.message}</p>`
  if (all.length === 0) return html`<p class="empty">No rebalance, and no bricks are being removed.</p>`
  return html`<ul class="rows">${all.map(operation => html`
    <li data-operation=${operation.volume}>
      <div class="line"><strong class="id">${operation.volume}</strong>${badge(operation.state)}</div>
      <p class="soft">${operation.kind}${operation.bricks === undefined ? '' : ` of ${operation.bricks.join(', ')}`}${operation.task === undefined ? '' : `, by task ${operation.task.taskId} on ${operation.task.hostId}`}${operation.startedAt === undefined ? '' : `, since ${clock(operation.startedAt)}`}</p>
      <p class="numbers">${totals(operation)}</p>
      ${operation.complete || operation.missing.length === 0 ? nothing : html`<p class="warning">Without an answer: ${operation.missing.join(', ')}. The numbers are those of the other hosts.</p>`}
      ${operation.rejected === undefined ? nothing : html`<p class="warning">The cluster has rejected: ${operation.rejected.join(', ')}. They do nothing.</p>`}
      ${operation.joinedLater === undefined ? nothing : html`<p class="warning">Joined after the start, and take no part: ${operation.joinedLater.join(', ')}.</p>`}
      ${operation.nodes.filter(node => node.stalledSince !== undefined).map(node => html`<p class="warning">${node.host} has moved nothing since ${clock(node.stalledSince)}: its process is most likely dead.</p>`)}
      ${operation.disagreement === undefined ? nothing : html`<p class="warning">${operation.disagreement.map(({ host }) => host).join(', ')} ${operation.disagreement.length === 1 ? 'tells' : 'tell'} of another operation on this volume.</p>`}
      ${operation.problem === undefined ? nothing : html`<p class="problem">${operation.problem.detail}</p>`}
      <div class="scroll" tabindex="0" role="group" aria-label=${`Hosts of the operation on ${operation.volume}`}>
        <table>
          <thead><tr><th scope="col">Host</th><th scope="col">State</th><th scope="col">Files</th><th scope="col">Moved</th><th scope="col">Failures</th></tr></thead>
          <tbody>
            ${operation.nodes.map(node => html`<tr><th scope="row">${node.host}</th><td>${badge(node.state)}</td><td>${node.files}</td><td>${size(node.bytes)}</td><td>${node.failures}</td></tr>`)}
            ${operation.missing.map(host => html`<tr class="missing"><th scope="row">${host}</th><td>${badge('missing')}</td><td colspan="3">does not answer</td></tr>`)}
          </tbody>
        </table>
      </div>
    </li>`)}</ul>`
}

function totals ({ totals: { files, bytes, failures }, rate, estimate }) {
  return [
    `${size(bytes)} in ${files} files moved`,
    failures > 0 && `${failures} failures`,
    rate !== undefined && rate.bytesPerSecond > 0 && `${size(rate.bytesPerSecond)}/s`,
    estimate?.secondsLeft !== undefined && `about ${seconds(estimate.secondsLeft)} left`
  ].filter(part => part !== false).join(' · ')
}
