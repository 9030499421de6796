import { InvalidArgumentError } from 'commander'

const units = ['', 'K', 'M', 'G', 'T', 'P'] as const

/** Reads `100M`, `1.5G`, `64KiB` or a number of bytes; units are powers of 1024. */
export function parseBytes (text: string): number {
  const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?)([KMGTP]?)(?:iB)?$/i.exec(text) ?? []
  const bytes = Math.round(Number(digits) * 1024 ** units.findIndex(one => one === unit.toUpperCase()))
  if (digits === '' || !Number.isSafeInteger(bytes) || bytes === 0) {
    throw new InvalidArgumentError('Give bytes, or a number with K, M, G or T (powers of 1024): 100M, 1.5G.')
  }
  return bytes
}

export function parseSeconds (text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Give a whole number of seconds.')
  return Number(text)
}

/** As people read it: `12.3 MiB`. */
export function formatBytes (bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(Math.floor(Math.log2(bytes) / 10), units.length - 1)
  const value = bytes / 1024 ** power
  // three digits say enough
  const digits = power === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1
  return `${value.toFixed(digits)} ${units[power]}${power === 0 ? 'B' : 'iB'}`
}

/** As people read it: `11 s`, `2 min 5 s`, `3 h 4 min`. */
export function formatSeconds (seconds: number): string {
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`
}
