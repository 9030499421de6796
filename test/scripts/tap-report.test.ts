import { fileURLToPath } from 'node:url'
import t from 'tap'

interface Report {
  counts?: Record<string, number>
  currentFile: string
  write: (chunk: string) => void
}

const script = fileURLToPath(new URL('../../scripts/tap-report.mjs', import.meta.url))
const { TapReport }: { TapReport: new (print: (line: string) => void) => Report } = await import(script)

function read (...chunks: string[]) {
  const lines: string[] = []
  const report = new TapReport(line => lines.push(line))
  for (const chunk of chunks) report.write(chunk)
  return { report, lines }
}

const raw = `TAP version 14
1..3
# Subtest: test/a.test.ts
    # Subtest: holds
        ok 1 - should be equal
        1..1
    ok 1 - holds # time=2.03ms
    1..1
    # time=32.637ms
ok 1 - test/a.test.ts # time=32.637ms

# Subtest: test/b.test.ts
    printed: by the test
      ---
     not ok 9 - noise
    # { total: 9, pass: 9 }
    # Subtest: outer
        # Subtest: inner
            ok 1 - later # TODO
            not ok 2 - not yet # TODO
            not ok 3 - should be equal
              ---
              diff: |
                -3
                +1
              ...

            1..3
        not ok 1 - inner # time=1ms
          ---
          at:
            lineNumber: 4
          ...
        1..1
    not ok 1 - outer # time=17.508ms
    1..1
not ok 2 - test/b.test.ts # time=50ms
  ---
  exitCode: 1
  ...

# Subtest: test/c.test.ts
    1..0 # no tests found
not ok 3 - test/c.test.ts # time=948.246ms
  ---
  exitCode: 7
  ...

# { total: 5, pass: 2, fail: 2, todo: 1 }
# time=32628.439ms
`

const expected = [
  'ok   test/a.test.ts (33 ms)',
  'FAIL test/b.test.ts (50 ms)',
  '\n  test/b.test.ts > outer > inner > should be equal\n    diff: |\n      -3\n      +1\n',
  'FAIL test/c.test.ts (948 ms)',
  '\n  test/c.test.ts\n    exitCode: 7\n'
]

t.test('a file is one line, with each failure in it told once and whole', async t => {
  const { report, lines } = read(raw)
  t.strictSame(lines, expected)
  t.strictSame(report.counts, { total: 5, pass: 2, fail: 2, skip: 0, todo: 1 })
})

t.test('how the output is cut into pieces makes no difference', async t => {
  t.strictSame(read(...raw).lines, expected)
})

t.test('a run that was cut off has no counts, and names the file that it was in', async t => {
  const { report } = read('TAP version 14\n# Subtest: test/a.test.ts\n    ok 1 - first\n    # { total: 1, pass: 1 }\n')
  t.equal(report.counts, undefined)
  t.equal(report.currentFile, 'test/a.test.ts')
})
