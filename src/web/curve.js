import UPlot from 'uplot'
import { size } from './words.js'

const spanSeconds = 300
const height = 110

/** How much all copies move together, over the last five minutes that the page was open. */
export class Curve {
  #container
  #times = []
  #rates = []
  #plot

  constructor (container) {
    this.#container = container
    // colors come from the style sheet, which changes with the scheme
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { this.#forget() })
    new ResizeObserver(() => { this.#plot?.setSize({ width: container.clientWidth, height }) }).observe(container)
  }

  /** Takes the rate of now, once a second. */
  add (bytesPerSecond) {
    const now = Date.now() / 1000
    this.#times.push(now)
    this.#rates.push(bytesPerSecond)
    while (this.#times[0] < now - spanSeconds) {
      this.#times.shift()
      this.#rates.shift()
    }
    const highest = Math.max(...this.#rates)
    this.#container.hidden = highest === 0
    if (highest === 0) return this.#forget()
    this.#container.setAttribute('aria-label', `Throughput of the last five minutes: ${size(bytesPerSecond)} per second now, at most ${size(highest)} per second`)
    this.#plot ??= this.#make()
    this.#plot.setData([this.#times, this.#rates], false)
    this.#plot.setScale('x', { min: now - spanSeconds, max: now })
    this.#plot.setScale('y', { min: 0, max: niceTop(highest) })
  }

  #forget () {
    this.#plot?.destroy()
    this.#plot = undefined
  }

  #make () {
    const style = getComputedStyle(document.documentElement)
    const color = name => style.getPropertyValue(name).trim()
    const axis = { stroke: color('--soft'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false }, font: '11px system-ui, sans-serif' }
    return new UPlot({
      width: this.#container.clientWidth,
      height,
      padding: [8, 20, 0, 0],
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      series: [{}, { stroke: color('--run'), fill: color('--run-soft'), width: 1.5, points: { show: false } }],
      axes: [
        { ...axis, values: (_plot, times) => times.map(time => new Date(time * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hour12: false })), incrs: [60, 120, 300], space: 56, size: 24 },
        { ...axis, values: (_plot, rates) => rates.map(rate => rate === 0 ? '0' : `${size(rate)}/s`), splits: (_plot, _axis, _min, max) => [0, max / 2, max], size: 76 }
      ]
    }, [this.#times, this.#rates], this.#container)
  }
}

/** The next of 1, 2, 4, 8, ... in bytes: then the labels are round. */
function niceTop (highest) {
  return Math.max(2 ** Math.ceil(Math.log2(highest)), 1024)
}
