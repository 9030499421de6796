import neostandard from 'neostandard'
import { emptyPattern } from './scripts/lint/empty-pattern.mjs'

export default [
  ...neostandard({
    ts: true,
    ignores: ['dist/', 'dist.*/', 'var/', 'node_modules/', '.tap/', 'src/client/openapi.d.ts']
  }),
  {
    rules: {
      // `export const Task = Type.Object(...)` and `export type Task = Static<typeof Task>` are one thing under one name.
      '@typescript-eslint/no-redeclare': 'off',
      // `void task()` says that nobody waits for it here, and that this is meant.
      'no-void': ['error', { allowAsStatement: true }]
    }
  },
  {
    files: ['test/**'],
    plugins: { tests: { rules: { 'empty-pattern': emptyPattern } } },
    rules: { 'tests/empty-pattern': 'error' }
  },
  {
    files: ['src/web/**'],
    languageOptions: { globals: Object.fromEntries(['document', 'crypto', 'EventSource', 'fetch', 'getComputedStyle', 'location', 'matchMedia', 'requestAnimationFrame', 'ResizeObserver'].map(name => [name, 'readonly'])) }
  }
]
