import t from 'tap'
import { AppError } from '../../src/errors.ts'
import { fileBeside, formatOfName, isImageName, sourceFormat, targetFormat } from '../../src/storage/names.ts'

t.test('an image name is one plain path component', async t => {
  for (const name of ['a', 'a.raw', '_x', 'disk 1.qcow2', 'a..b', '0', 'A-Z_~:@=+,().img', 'x'.repeat(200)]) t.ok(isImageName(name), name)
  for (const name of [
    '', '.', '..', '.hidden', '.vdsm-tasks', '/', 'a/b', '../a', 'a/../b', '/etc/passwd', 'a\\b', 'a\0b', 'a\nb', 'a\n', 'a\tb',
    ' a', '-a', 'ä.raw', 'a%2Fb', 'a"b', "a'b", 'a;b', 'a|b', 'a*b', 'a?b', 'a$b', 'a`b', 'json:{"driver":"raw"}', 'x'.repeat(201)
  ]) t.notOk(isImageName(name), JSON.stringify(name))
})

t.test('the format follows from the last extension only', async t => {
  for (const [name, format] of [
    ['a.qcow2', 'qcow2'], ['a.QCOW2', 'qcow2'], ['a.raw', 'raw'], ['a.img', 'raw'], ['a.iso', 'raw'], ['a.qcow2.raw', 'raw'],
    ['a.raw.qcow2', 'qcow2'], ['a', undefined], ['a.vmdk', undefined], ['qcow2', undefined], ['a.', undefined], ['a.raw ', undefined],
    // names of members that every object has
    ['a.constructor', undefined], ['a.toString', undefined]
  ] as const) t.equal(formatOfName(name), format, name)
})

t.test('source and target formats over all combinations of name and request', async t => {
  const given = [undefined, 'raw', 'qcow2'] as const
  const expected: Array<[name: string, source: string[], target: string[]]> = [
    ['a.raw', ['raw', 'raw', 'qcow2'], ['raw', 'raw', 'format-conflict']],
    ['a.qcow2', ['qcow2', 'raw', 'qcow2'], ['qcow2', 'format-conflict', 'qcow2']],
    ['a', ['format-unknown', 'raw', 'qcow2'], ['format-unknown', 'raw', 'qcow2']]
  ]
  const outcome = (work: () => string) => {
    try {
      return work()
    } catch (error) {
      return error instanceof AppError ? error.code : String(error)
    }
  }
  for (const [name, source, target] of expected) {
    t.same(given.map(format => outcome(() => sourceFormat(name, format))), source, `source ${name}`)
    t.same(given.map(format => outcome(() => targetFormat(name, format))), target, `target ${name}`)
  }
})

t.test('a backing file name means a file beside the image, as qemu reads it', async t => {
  for (const [name, file] of [
    ['base.img', 'base.img'], ['./base.img', 'base.img'], ['././base.img', 'base.img'], ['.//./base.img', 'base.img'], ['/dir/base.img', 'base.img'],
    ['/dir/./base.img', 'base.img'], ['/dir//base.img', 'base.img'], ['./a:b', 'a:b'], ['/dir/a:b', 'a:b'], ['...', '...'], ['.hidden', '.hidden'],
    ['', undefined], ['.', undefined], ['..', undefined], ['./', undefined], ['./.', undefined], ['./..', undefined], ['../base.img', undefined],
    ['sub/base.img', undefined], ['./sub/base.img', undefined], ['sub/../base.img', undefined], ['base.img/', undefined], ['/base.img', undefined],
    ['/dir2/base.img', undefined], ['/dir/../dir/base.img', undefined], ['a:b', undefined], ['json:{}', undefined], ['nbd:host:1', undefined], ['file:base.img', undefined]
  ] as const) t.equal(fileBeside(name, '/dir'), file, name)
})
