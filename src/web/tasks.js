import { html, nothing } from 'lit-html'
import { repeat } from 'lit-html/directives/repeat.js'
import { percentOf, stalledWords, workOf } from '../client/progress.ts'
import { clock, inThePage, numbers, outcome, seconds, what } from './words.js'

const shownAtFirst = 20

/**
 * The tasks under way, those that wait for their turn last.
 *
 * @param actions `cancel`, unless whoever looks may not; `showAll`, unless all are to be shown.
 */
export function running (tasks, { cancel, showAll }) {
  if (tasks.length === 0) return html`<p class="empty">Nothing is under way.</p>`
  const isQueued = ({ progress }) => Number(progress?.phase === 'queued')
  const sorted = tasks.toSorted((a, b) => isQueued(a) - isQueued(b) || (a.progress?.queuePosition ?? 0) - (b.progress?.queuePosition ?? 0))
  const shown = showAll === undefined ? sorted : sorted.slice(0, shownAtFirst)
  return html`<ul class="rows">${repeat(shown, ({ runId }) => runId, task => html`
    <li class="task" data-task=${task.id}>
      <div class="line">
        <strong class="id">${task.id}</strong>
        ${badge(task.progress?.stalledSince !== undefined ? 'stalled' : task.progress?.phase === 'queued' ? 'queued' : task.state)}
        ${task.cancelable && cancel !== undefined
          ? html`<button type="button" class="quiet" ?disabled=${task.state === 'canceling'} aria-label=${`Cancel ${task.id}`} @click=${() => { cancel(task) }}>Cancel</button>`
          : nothing}
      </div>
      <p class="soft">${what(task.spec)}</p>
      ${task.progress === undefined ? nothing : progressOf(task)}
    </li>`)}</ul>
    ${theRest(sorted, shown, showAll)}`
}

/** A page is not a list of a thousand. */
function theRest (all, shown, showAll) {
  return all.length === shown.length ? nothing : html`<button type="button" class="quiet" @click=${showAll}>Show all ${all.length}</button>`
}

function progressOf ({ id, progress }) {
  const { phase, stalledSince } = progress
  const work = workOf(progress)
  return html`
    ${phase === 'queued' || work === undefined ? nothing : bar(`Progress of ${id}`, work.done, work.total, stalledSince === undefined ? '' : 'stalled')}
    <p class="numbers">${numbers(progress)}</p>
    ${stalledSince === undefined ? nothing : html`<p class="warning">${whatStalls(progress)}</p>`}`
}

function whatStalls (progress) {
  const since = `since ${clock(progress.stalledSince)}`
  if (progress.stalledProcess === undefined) return `The storage has not answered ${since}. When it does, the task goes on by itself.`
  return `Nothing goes on ${since}: ${stalledWords(progress)}. When it goes on, so does the task, by itself.`
}

/** A bar with its percentage beside it. */
export function bar (label, done, total, className = '') {
  return html`<div class="progress"><progress class=${className} aria-label=${label} max=${total || 1} .value=${total === 0 ? 1 : done}></progress><span class="percent">${percentOf(done, total)} %</span></div>`
}

/** A state, in a word and a color. */
export function badge (state) {
  return html`<span class=${`badge ${state}`}>${state}</span>`
}

/** What came of the tasks, newest first. Without `showAll`, all are to be shown. */
export function results (tasks, { showAll }) {
  if (tasks.length === 0) return html`<p class="empty">No task has finished lately.</p>`
  const sorted = tasks.toSorted((a, b) => b.endedAt.localeCompare(a.endedAt))
  const shown = showAll === undefined ? sorted : sorted.slice(0, shownAtFirst)
  return html`
    <ul class="rows">${repeat(shown, ({ runId }) => runId, task => html`
      <li class="task" data-task=${task.id}>
        <div class="line">
          <strong class="id">${task.id}</strong>
          ${badge(task.state)}
          <span class="when"><time datetime=${task.endedAt}>${clock(task.endedAt)}</time>, after ${seconds((Date.parse(task.endedAt) - Date.parse(task.createdAt)) / 1000)}</span>
        </div>
        <p class="soft">${what(task.spec)}</p>
        ${task.error === undefined
          ? html`<p>${outcome(task)}</p>`
          : html`<p class="problem"><strong>${task.error.title}.</strong> ${inThePage(task.error.detail)} <code>${task.error.code}</code></p>`}
      </li>`)}</ul>
    ${theRest(sorted, shown, showAll)}`
}
