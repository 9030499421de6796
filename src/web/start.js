import { html, render } from 'lit-html'
import { repeat } from 'lit-html/directives/repeat.js'
import { read, sendTask } from './requests.js'
import { inThePage } from './words.js'

/** What is not to stay for the next copy. */
const forOnce = ['targetImage', 'replace', 'ignoreSpace', 'refuseLoss', 'id']

/** The form that starts a copy. It keeps what is typed while everything around it changes. */
export class StartForm {
  #container
  #live
  #problem
  #sent
  /** What there is to be said of the image that is chosen as the source. */
  #about = { name: '', words: [] }

  constructor (container, live) {
    this.#container = container
    this.#live = live
  }

  draw () {
    const { domains, shelves, mayOperate, caller } = this.#live
    if (!mayOperate) {
      render(html`<h2 id="start-title">Start a copy</h2><p class="empty">You are ${caller.who} and may only look. To start, cancel, continue and delete, log in with a token of the scope <code>operate</code>.</p>`, this.#container)
      return
    }
    // by key: an option that became another one's would take what is chosen with it
    const options = repeat(domains, ({ domain }) => domain, ({ domain }) => html`<option value=${domain}>${domain}</option>`)
    const names = [...shelves].flatMap(([domain, { items }]) => items.map(({ image }) => html`<option value=${image}>${domain}</option>`))
    const look = () => { void this.#look() }
    render(html`
      <h2 id="start-title">Start a copy</h2>
      <form aria-labelledby="start-title" autocomplete="off" @submit=${event => { event.preventDefault(); void this.#send(event.currentTarget) }}>
        <fieldset>
          <legend>From</legend>
          <label class="domain">Domain <select name="sourceDomain" required @change=${look}>${options}</select></label>
          <label class="name">Image <input name="sourceImage" required list="image-names" spellcheck="false"
            placeholder="disk.raw" @change=${look}></label>
          <div role="status">${this.#about.words.map(words => html`<p class="warning">${words}</p>`)}</div>
        </fieldset>
        <fieldset>
          <legend>To</legend>
          <label class="domain">Domain <select name="targetDomain" required>${options}</select></label>
          <label class="name">New image <input name="targetImage" required spellcheck="false" placeholder="copy.qcow2"></label>
        </fieldset>
        <datalist id="image-names">${names}</datalist>
        <label class="check"><input type="checkbox" name="verify"> Compare with the source at the end</label>
        <details>
          <summary>More</summary>
          <label>Source format <select name="sourceFormat">${formats()}</select></label>
          <label>Target format <select name="targetFormat">${formats()}</select></label>
          <label class="check"><input type="checkbox" name="replace"> Replace the image of that name, when the copy is complete</label>
          <label class="check"><input type="checkbox" name="ignoreSpace"> Begin also when the space looks too small</label>
          <label class="check"><input type="checkbox" name="refuseLoss"> Refuse what would lose internal snapshots or bitmaps</label>
          <label>Limit, MiB per second <input name="limit" type="number" min="0.1" step="any" inputmode="decimal" placeholder="none"></label>
          <label>Id of the task <input name="id" spellcheck="false" maxlength="255" placeholder="made up"></label>
        </details>
        <button type="submit" class="strong">Start the copy</button>
        <div role="alert">${this.#problem === undefined ? '' : html`<p class="problem">${this.#problem}</p>`}</div>
        <div role="status">${!this.#live.tasks.has(this.#sent) ? '' : html`<p class="soft">Task ${this.#sent} was sent: ${this.#live.tasks.get(this.#sent).state}.</p>`}</div>
      </form>`, this.#container)
  }

  /** Fills in the source and asks for the rest. */
  fill (domain, image) {
    const { sourceDomain, sourceImage, targetImage } = this.#container.querySelector('form').elements
    sourceDomain.value = domain
    sourceImage.value = image
    this.#container.scrollIntoView({ block: 'nearest' })
    targetImage.focus()
    void this.#look()
  }

  /** A damaged image, or one whose base is newer, is told before somebody copies it. */
  async #look () {
    const { sourceDomain, sourceImage } = this.#container.querySelector('form').elements
    const name = `${sourceDomain.value}/${sourceImage.value.trim()}`
    if (name === this.#about.name) return
    this.#about = { name, words: [] }
    const words = await wordsAbout(sourceDomain.value, sourceImage.value.trim())
    // another one was chosen meanwhile
    if (this.#about.name === name) this.#about = { name, words }
    this.draw()
  }

  async #send (form) {
    const value = name => form.elements[name].value.trim()
    const limit = Number(value('limit'))
    const spec = {
      kind: 'storage.copyImage',
      source: { domain: value('sourceDomain'), image: value('sourceImage'), ...formatOf(value('sourceFormat')) },
      target: { domain: value('targetDomain'), image: value('targetImage'), ...formatOf(value('targetFormat')) },
      ...(form.elements.verify.checked && { verify: true }),
      ...(form.elements.replace.checked && { onExisting: 'replace' }),
      ...(form.elements.ignoreSpace.checked && { ignoreSpace: true }),
      ...(form.elements.refuseLoss.checked && { refuseLoss: true }),
      ...(limit > 0 && { bandwidth: Math.round(limit * 1024 * 1024) })
    }
    this.#problem = undefined
    this.#sent = undefined
    const button = form.querySelector('button[type=submit]')
    button.disabled = true
    try {
      const sent = new Map(forOnce.map(name => [name, stateOf(form.elements[name])]))
      this.#sent = (await sendTask(spec, value('id') || undefined)).id
      // the answer may have taken seconds: what was changed meanwhile is for the next copy
      for (const [name, state] of sent) if (stateOf(form.elements[name]) === state) empty(form.elements[name])
    } catch (error) {
      this.#problem = error.message
    } finally {
      button.disabled = false
    }
    this.draw()
  }
}

async function wordsAbout (domain, image) {
  if (image === '') return []
  try {
    const { state, detail, warnings = [] } = await read(`domains/${domain}/images/${encodeURIComponent(image)}`)
    return [...state === 'ok' || detail === undefined ? [] : [inThePage(detail)], ...warnings]
  } catch {
    // whoever sends it is told
    return []
  }
}

function stateOf (input) {
  return input.type === 'checkbox' ? input.checked : input.value
}

function empty (input) {
  if (input.type === 'checkbox') input.checked = false
  else input.value = ''
}

function formats () {
  return html`<option value="">as its name says</option><option value="raw">raw</option><option value="qcow2">qcow2</option>`
}

function formatOf (format) {
  return format === '' ? {} : { format }
}
