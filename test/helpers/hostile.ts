import { seeded } from './seeded.ts'

/** What a hostile host writes where something else should be. */
const values: unknown[] = [
  null, true, 0, -1, 0.5, 1e308, 2 ** 53 - 1, 2 ** 53, -(2 ** 63), '', 'x', '..', '.', '/', '/etc/passwd', '../../outside/secret.raw', 'a/b', 'a\0b', 'a\nb', '\u001b[2J', '__proto__', 'constructor', 'toString',
  'local', 'source.raw', 'elsewhere', 'json:{"driver":"file"}', 'nbd://127.0.0.1/x', '-rf', '99999999999999999999', 'x'.repeat(300), [], {}, [[0, 1]], [[5, 2]], [[0, 2 ** 53]], { __proto__: { admin: true } }, ['', null]
]

/** Makes what a hostile host could have written, the same for the same seed. */
export class Hostile {
  readonly #random: () => number

  constructor (seed: number) {
    this.#random = seeded(seed)
  }

  int (below: number): number { return Math.floor(this.#random() * below) }
  pick<T> (from: readonly T[]): T { return from[this.int(from.length)] as T }

  /** The same but for one thing somewhere in it, which is gone, more, or something else. */
  twist (value: unknown): unknown {
    if (typeof value !== 'object' || value === null || this.int(8) === 0) return this.pick(values)
    if (Array.isArray(value)) {
      const copy: unknown[] = [...value]
      const at = this.int(copy.length + 1)
      if (at === copy.length || this.int(4) === 0) copy.splice(at, this.int(2), this.pick(values))
      else copy[at] = this.twist(copy[at])
      return copy
    }
    const copy: Record<string, unknown> = { ...value }
    const key = this.pick([...Object.keys(copy), 'new'])
    if (this.int(6) === 0) delete copy[key]
    else copy[key] = this.twist(copy[key])
    return copy
  }

  /** Text of which some bytes are lost, doubled, or others; sometimes there is nothing else in it. */
  spoil (text: string): Buffer {
    let bytes = Buffer.from(text)
    if (this.int(20) === 0) return Buffer.from(Array.from({ length: this.int(2000) }, () => this.int(256)))
    for (let times = 1 + this.int(3); times > 0; times--) {
      const at = this.int(bytes.length + 1)
      const length = this.int(12)
      const [before, piece, after] = [bytes.subarray(0, at), bytes.subarray(at, at + length), bytes.subarray(at + length)]
      bytes = Buffer.concat([before, ...this.pick([[], [piece, piece], [Buffer.from([this.int(256)]), piece], [piece, Buffer.from('\n'), piece], [Buffer.from('='.repeat(this.int(700)))]]), after])
    }
    return bytes
  }
}
