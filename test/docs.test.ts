import { readFile, readdir } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import * as config from '../src/config.ts'
import { catalogue } from '../src/errors.ts'
import { CopyRecord } from '../src/storage/record.ts'

interface Generators {
  configurationReference: (source: typeof config) => string
  errorCatalogue: (of: typeof catalogue) => string
}
const { configurationReference, errorCatalogue }: Generators = await import(fileURLToPath(new URL('../scripts/docs.mjs', import.meta.url)))

const docs = new URL('../docs/', import.meta.url)
const read = async (name: string) => await readFile(new URL(name, docs), 'utf8')

t.test('the reference of the configuration and the catalogue of errors are what the source says: npm run docs', async t => {
  t.equal(await read('configuration.md'), configurationReference(config))
  t.equal(await read('errors.md'), errorCatalogue(catalogue))
  for (const key of ['auth.tls.cert', 'auth.clients[].scope', 'domains[].owner.uid', 'listen.unix']) t.match(await read('configuration.md'), `\`${key}\``)
  t.match(await read('configuration.md'), /`copy\.maxConcurrent` \| whole number, at least 1 \| `4`/)
})

t.test('the storage protocol names every member of a copy record, and no other', async t => {
  const text = await read('storage.md')
  const table = text.slice(text.indexOf('| Member'), text.indexOf('\n\n', text.indexOf('| Member')))
  t.same([...table.matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name).sort(), Object.keys(CopyRecord.properties).sort())
})

t.test('links between the documents lead somewhere', async t => {
  const names = ['../README.md', ...(await readdir(docs)).filter(name => name.endsWith('.md'))]
  let links = 0
  for (const name of names) {
    const text = await read(name)
    for (const [, target = ''] of text.matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)) {
      links++
      await t.resolves(readFile(new URL(target, new URL(name, docs))), `${name}: ${target}`)
    }
  }
  t.ok(links > 10, `${links} links in ${names.length} documents`)
})
