// Takes the types off our own TypeScript, with blanks in their place: lines and columns stay those of the source. What was
// made of a file is kept until that changes.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { threadId } from 'node:worker_threads'

/** The URL of the repository's folder. */
export const root = new URL('../../', import.meta.url).href
const cache = new URL('node_modules/.cache/typescript/', root)

/** The JavaScript of one of our files, by its URL. */
export async function javascriptOf (url) {
  const text = readFileSync(fileURLToPath(url), 'utf8')
  const mark = `\n// ${createHash('sha256').update(text).digest('hex')}\n`
  const kept = fileURLToPath(new URL(`${encodeURIComponent(encodeURIComponent(url.slice(root.length)))}.js`, cache))
  const known = read(kept)
  if (known?.endsWith(mark)) return known
  // only when it is needed: it brings the whole compiler
  const { default: blankTypes } = await import('ts-blank-space')
  const code = blankTypes(text, ({ pos }) => { throw new SyntaxError(`${url}: at character ${pos} is TypeScript that is more than types`) }) + mark
  write(kept, code)
  return code
}

function read (file) {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    if (error.code !== 'ENOENT') throw error
  }
}

/** Others may write the same at the same moment. */
function write (file, text) {
  const part = `${file}.${process.pid}.${threadId}`
  try {
    mkdirSync(cache, { recursive: true })
    writeFileSync(part, text)
    renameSync(part, file)
  } catch (error) {
    // the next process does the same work again
    if (!['EACCES', 'EROFS', 'ENOSPC'].includes(error.code)) throw error
  }
}
