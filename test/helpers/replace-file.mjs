// Replaces a file: node replace-file.mjs DIRECTORY NAME TEXT TIMES
import { openDirectory } from '../../dist/system/directory.js'
import { replaceFile } from '../../dist/system/durable.js'

const [path, name, text, times] = process.argv.slice(2)
await replaceFile(await openDirectory(path), name, `${name}.new`, text.repeat(Number(times)))
