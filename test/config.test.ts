import { hostname } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ConfigError, loadConfig, parseConfig } from '../src/config.ts'
import { Empty } from './helpers/empty.ts'

const here = '/srv/agent'
const domain = (id: string, path: string) => ({ id, path })

t.test('without a word everything has its default', async t => {
  t.match(parseConfig({}, here), {
    listen: [{ host: '127.0.0.1', port: 7480 }],
    hostId: hostname(),
    domains: [{ id: 'local', layout: 'directory', path: '/srv/agent/var/images', create: true, sample: true }],
    copy: { maxConcurrent: 4, parallelWindows: 2, windowSeconds: 4 },
    tasks: { retentionSeconds: 900, maxActive: 1000, maxRetained: 100_000 },
    http: { allowedHosts: Empty },
    log: { level: 'info' }
  })
  t.same(loadConfig(undefined, here), parseConfig({}, here))
})

t.test('what is given stays, and the rest of its group has defaults', async t => {
  t.match(parseConfig({ copy: { maxConcurrent: 9 }, log: { level: 'debug' }, hostId: 'n1', domains: [domain('a', '/a')] }, here), {
    copy: { maxConcurrent: 9, parallelWindows: 2 },
    log: { level: 'debug' },
    hostId: 'n1',
    domains: [{ id: 'a', path: '/a', layout: 'directory', create: false, sample: false }]
  })
})

t.test('a key that is not known is named with its path, at every depth', async t => {
  for (const [value, path] of [
    [{ colour: 1 }, 'colour'],
    [{ copy: { maxConcurent: 1 } }, 'copy.maxConcurent'],
    [{ tasks: { retention: 1 }, log: { level: 'info' } }, 'tasks.retention'],
    [{ domains: [{ ...domain('a', '/a'), requireMounts: true }] }, 'domains.0.requireMounts'],
    [{ domains: [domain('a', '/a'), { ...domain('b', '/b'), readonly: true }] }, 'domains.1.readonly'],
    [{ listen: { prot: 1 } }, 'listen.prot'],
    [{ listen: { host: '127.0.0.1', prot: 1 } }, 'listen.prot'],
    [{ listen: { unix: '/s', port: 1 } }, 'listen.port'],
    [{ listen: [{ port: 1 }, { unix: '/s', owner: 1 }] }, 'listen.1.owner'],
    [{ listen: [{ post: 1 }, { unix: '/s' }] }, 'listen.0.post'],
    [JSON.parse('{"__proto__": {"colour": 1}}'), '__proto__'],
    [JSON.parse('{"copy": {"__proto__": {"maxConcurrent": 1}}}'), 'copy.__proto__'],
    [JSON.parse('{"listen": {"__proto__": {}}}'), 'listen.__proto__'],
    [{ constructor: 1 }, 'constructor']
  ] as const) {
    t.throws(() => parseConfig(value, here), { name: 'ConfigError', message: `Unknown key "${path}" in the configuration. --show-config shows the keys there are.` }, path)
  }
})

t.test('a value of the wrong type is named with its path, and with what it may be', async t => {
  for (const [value, message] of [
    [{ copy: { maxConcurrent: '4' } }, /"copy.maxConcurrent".*integer/],
    [{ copy: { maxConcurrent: 0 } }, /"copy.maxConcurrent".*>= 1/],
    [{ copy: { maxConcurrent: 1.5 } }, /"copy.maxConcurrent".*integer/],
    [{ copy: 4 }, /"copy".*object/],
    [{ copy: null }, /"copy".*object/],
    [{ tasks: { retentionSeconds: 0 } }, /"tasks.retentionSeconds"/],
    [{ log: { level: 'loud' } }, /"log.level".*one of trace, debug, info/],
    [{ hostId: '' }, /"hostId"/],
    [{ domains: {} }, /"domains".*array/],
    [{ domains: [{ path: '/a' }] }, /"domains.0.id".*missing/],
    [{ domains: [domain('a', '/a'), { id: 'b' }] }, /"domains.1.path"/],
    [{ domains: [domain('../a', '/a')] }, /"domains.0.id"/],
    [{ domains: [domain('a', '')] }, /"domains.0.path"/],
    [{ domains: [{ ...domain('a', '/a'), layout: 'ovrit' }] }, /"domains.0.layout"/],
    [{ domains: [{ ...domain('a', '/a'), mode: 660 }] }, /"domains.0.mode".*string/],
    [{ domains: [{ ...domain('a', '/a'), mode: '0440' }] }, /"domains.0.mode".*pattern/],
    [{ domains: [{ ...domain('a', '/a'), owner: { uid: 36 } }] }, /"domains.0.owner.gid".*missing/],
    [{ listen: 7480 }, /"listen".*object/],
    [{ listen: null }, /"listen".*object/],
    [{ listen: [] }, /"listen".*at least one/],
    [{ listen: { port: '7480' } }, /"listen.port".*integer/],
    [{ listen: { port: 65536 } }, /"listen.port"/],
    [{ listen: { unix: 5 } }, /"listen.unix".*string/],
    [{ listen: [{ port: 1 }, { unix: '' }] }, /"listen.1.unix"/],
    [{ listen: [{ port: 1 }, 5] }, /"listen.1".*object/],
    [{ http: { allowedHosts: 'node1' } }, /"http.allowedHosts".*array/],
    [{ http: { allowedHosts: [1] } }, /"http.allowedHosts.0".*string/],
    [[], /The configuration must be object/],
    [null, /The configuration must be object/],
    ['x', /The configuration must be object/]
  ] as const) {
    t.throws(() => parseConfig(value, here), { name: 'ConfigError', message }, JSON.stringify(value))
  }
})

t.test('it listens on one address or several; without more, on loopback or unix sockets only', async t => {
  const tcp = (host: string, port: number) => ({ host, port, tls: false })
  const unix = (unix: string) => ({ unix, mode: '0600' })
  for (const [listen, expected] of [
    [{ port: 1 }, [tcp('127.0.0.1', 1)]],
    [{ host: '::1' }, [tcp('::1', 7480)]],
    [{ host: 'localhost', port: 0 }, [tcp('localhost', 0)]],
    [{ host: '127.1.2.3' }, [tcp('127.1.2.3', 7480)]],
    [{ unix: '/run/a.sock' }, [unix('/run/a.sock')]],
    [{ unix: 'run/a.sock' }, [unix('/srv/agent/run/a.sock')]],
    [{ unix: '/run/a.sock', mode: '0660' }, [{ unix: '/run/a.sock', mode: '0660' }]],
    [[{ port: 1 }, { unix: '../a.sock' }], [tcp('127.0.0.1', 1), unix('/srv/a.sock')]]
  ] as const) t.same(parseConfig({ listen }, here).listen, expected, JSON.stringify(listen))
  for (const mode of ['rw', '888', '99999', '']) t.throws(() => parseConfig({ listen: { unix: '/s', mode } }, here), { message: /"listen.mode"/ })
})

const pair = { cert: 'c.pem', key: 'k.pem' }
const clients = [{ name: 'engine', scope: 'operate' }]

t.test('beyond loopback it wants TLS and authentication, and says what to set', async t => {
  for (const host of ['0.0.0.0', '::', '10.0.0.1', 'node1.example', 'localhost.example', '', '127.0.0.1.example', '0', '0x7f.1', '127.0.0.999', '127.1', '::ffff:127.0.0.1', '::ffff:0.0.0.0', '[::1]', '::1%lo', '0:0:0:0:0:0:0:1', 'LOCALHOST', 'localhost.', ' 127.0.0.1', '2130706433']) {
    for (const [auth, message] of [
      [{}, /without TLS \(set "auth.tls".*and authentication \(set "auth.tokensFile"/],
      [{ tls: pair }, /without authentication \(set "auth.tokensFile"/],
      [{ tokensFile: 't' }, /without TLS \(set "auth.tls" to/]
    ] as const) {
      t.throws(() => parseConfig({ listen: { host }, auth }, here), { name: 'ConfigError', message }, host)
      t.throws(() => parseConfig({ listen: [{ port: 1 }, { host }], auth }, here), { name: 'ConfigError', message }, host)
    }
    t.throws(() => parseConfig({ listen: { host, tls: false }, auth: { tls: pair, tokensFile: 't' } }, here), { message: /without TLS \(remove "tls": false\)/ })
    for (const auth of [{ tls: pair, tokensFile: 't' }, { tls: { ...pair, clientCa: 'ca.pem' }, clients }]) t.match(parseConfig({ listen: { host }, auth }, here).listen, [{ host, tls: true }])
  }
})

t.test('where TLS is set up it is used, unless loopback is to do without', async t => {
  const auth = { tls: pair }
  t.match(parseConfig({ auth }, here), { listen: [{ host: '127.0.0.1', tls: true }], auth: { tls: { cert: '/srv/agent/c.pem', key: '/srv/agent/k.pem' }, clients: Empty } })
  t.match(parseConfig({ auth, listen: [{ tls: false }, { host: '::1', tls: true }] }, here).listen, [{ tls: false }, { tls: true }])
  t.throws(() => parseConfig({ listen: { tls: true } }, here), { message: /"auth.tls" is not set/ })
  t.throws(() => parseConfig({ auth: { tls: { cert: 'c' } } }, here), { message: /"auth.tls.key" in the configuration is missing/ })
  t.throws(() => parseConfig({ auth: { tls: pair, clients } }, here), { message: /"auth.tls.clientCa" does not say/ })
  t.same(parseConfig({ auth: { tls: { ...pair, clientCa: 'ca' } } }, here).auth.clients, [], 'the last client can be removed')
  t.throws(() => parseConfig({ auth: { tls: { ...pair, clientCa: 'ca' }, clients: [{ name: 'a', scope: 'root' }] } }, here), { message: /one of read, operate, admin/ })
})

t.test('a socket path that the system would cut off is refused', async t => {
  t.match(parseConfig({ listen: { unix: `/${'x'.repeat(106)}` } }, here).listen, [{ unix: /x{106}$/ }])
  t.throws(() => parseConfig({ listen: { unix: `/${'x'.repeat(107)}` } }, here), { message: /107 bytes/ })
  t.throws(() => parseConfig({ listen: { unix: `/${'ä'.repeat(54)}` } }, here), { message: /107 bytes/ })
  t.throws(() => parseConfig({ listen: { unix: 'a.sock' } }, `/${'x'.repeat(101)}`), { message: /107 bytes/ }, 'when it is absolute')
})

t.test('paths are relative to the configuration, domains are not nested, and their ids differ', async t => {
  const paths = (...domains: object[]) => parseConfig({ domains }, here).domains.map(({ path }) => path)
  t.same(paths(domain('a', 'x'), domain('b', './y/'), domain('c', '../z'), domain('d', '/abs/./w')), ['/srv/agent/x', '/srv/agent/y', '/srv/z', '/abs/w'])
  t.same(paths(domain('a', '/x/a'), domain('b', '/x/ab')), ['/x/a', '/x/ab'], 'a longer name is not inside')
  t.same(paths(), [])
  for (const [one, other] of [['/x', '/x'], ['/x', '/x/'], ['/x', '/x/y'], ['/x/y/z', '/x'], ['/', '/x'], ['x', '/srv/agent/x/y'], ['/x/../y', '/y/z']] as const) {
    t.throws(() => paths(domain('a', one), domain('b', other)), { name: 'ConfigError', message: /must not be nested/ }, `${one} ${other}`)
  }
  t.throws(() => paths(domain('a', '/x'), domain('a', '/y')), { name: 'ConfigError', message: /"a"/ })
})

t.test('a configuration cannot be changed, and what it was made from is not', async t => {
  const given = { copy: {}, domains: [domain('a', 'x')] }
  const config = parseConfig(given, here)
  t.same(given, { copy: {}, domains: [{ id: 'a', path: 'x' }] })
  for (const part of [config, config.copy, config.domains, config.domains[0], config.listen, config.listen[0], config.http.allowedHosts]) t.ok(Object.isFrozen(part))
})

t.test('what --show-config shows is a configuration, and it is the same', async t => {
  for (const value of [
    {},
    { listen: [{ port: 1 }, { unix: 'a.sock' }], hostId: 'n1', publicUrl: 'https://n1', domains: [domain('a', 'x')], http: { allowedHosts: ['n1'] }, log: { level: 'silent' } }
  ]) {
    const config = parseConfig(value, here)
    t.same(parseConfig(JSON.parse(JSON.stringify(config)), '/elsewhere'), config)
  }
})

t.test('a file is read, and its relative paths start where it lies', async t => {
  const directory = t.testdir({ conf: { 'agent.json': '{"domains":[{"id":"a","path":"images"}]}', bad: '{', array: '[]', bom: '\ufeff{}' } })
  t.equal(loadConfig('conf/agent.json', directory).domains[0]?.path, join(directory, 'conf/images'))
  t.equal(loadConfig(join(directory, 'conf/agent.json'), '/').domains[0]?.path, join(directory, 'conf/images'))
  for (const [name, message] of [['conf/none', /cannot be read.*ENOENT/], ['conf', /cannot be read.*EISDIR/], ['conf/bad', /is not JSON/], ['conf/array', /must be object/]] as const) {
    t.throws(() => loadConfig(name, directory), { name: 'ConfigError', message }, name)
  }
  try {
    loadConfig('conf/none', directory)
  } catch (error) {
    t.ok(error instanceof ConfigError && error.cause instanceof Error && error.message.includes(join(directory, 'conf/none')))
  }
})

t.test('oVirt domains have the leases that are said for all, or their own; other layouts have locks on files', async t => {
  const [one, two] = ['5fc8a6a5-7a39-4ef4-a4ff-5b4f0b1d8d6e', '0f3f4e57-6f3c-4bd5-9a55-9f4d6a1a7a11']
  const domains = [{ id: one, path: '/one', layout: 'ovirt' }, { id: two, path: '/two', layout: 'ovirt', leases: 'flock' }, { id: 'local', path: '/three' }]
  t.match(parseConfig({ leases: 'sanlock', sanlock: { hostId: 7 }, domains }, here), { sanlock: { hostId: 7 }, domains: [{ leases: 'sanlock' }, { leases: 'flock' }, { leases: undefined }] })
  t.match(parseConfig({ domains }, here), { leases: 'flock', sanlock: Object, domains: [{ leases: 'flock' }, { leases: 'flock' }, Object] })
  t.throws(() => parseConfig({ domains: [{ id: 'local', path: '/three', leases: 'sanlock' }] }, here), { message: /"local".*remove "leases"/ })
  for (const hostId of [0, 2001, 1.5, '1']) t.throws(() => parseConfig({ sanlock: { hostId } }, here), { message: /"sanlock.hostId"/ })
})
