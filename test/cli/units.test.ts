import t from 'tap'
import { formatBytes, formatSeconds, parseBytes, parseSeconds } from '../../src/cli/units.ts'

t.test('bytes are read with units of 1024', async t => {
  for (const [text, bytes] of [['1', 1], ['100M', 104857600], ['1g', 2 ** 30], ['1.5G', 1610612736], ['64KiB', 65536], ['2T', 2 ** 41]] as const) {
    t.equal(parseBytes(text), bytes, text)
  }
  for (const text of ['', '0', '-1', '1MB', 'M', '1e3', '1 G G', '9999P', '0.0001', '1.']) t.throws(() => parseBytes(text), { code: 'commander.invalidArgument' }, text)
})

t.test('seconds are whole and not negative', async t => {
  t.equal(parseSeconds('0'), 0)
  t.equal(parseSeconds('90'), 90)
  for (const text of ['', '-1', '1.5', '1s', '9999999999']) t.throws(() => parseSeconds(text), { code: 'commander.invalidArgument' }, text)
})

t.test('bytes and times are written with as many digits as say enough', async t => {
  for (const [bytes, text] of [[0, '0 B'], [1023, '1023 B'], [1024, '1 KiB'], [1536, '1.5 KiB'], [268435456, '256 MiB'], [12.34 * 2 ** 20, '12.3 MiB'], [2 ** 40, '1 TiB'], [2 ** 53, '8 PiB']] as const) {
    t.equal(formatBytes(bytes), text)
  }
  for (const [seconds, text] of [[0, '0 s'], [0.4, '0 s'], [59.4, '59 s'], [59.6, '1 min 0 s'], [125, '2 min 5 s'], [3600, '1 h 0 min'], [11045, '3 h 4 min']] as const) {
    t.equal(formatSeconds(seconds), text)
  }
})
