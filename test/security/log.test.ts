// What images, records, metadata and requests say reaches neither the log nor the command line raw, whoever looks at them.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { request } from 'node:http'
import t from 'tap'
import { runHere } from '../helpers/command-session.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeDisk, makeOld, MiB, qcow2Header, sh } from '../helpers/images.ts'
import { needs } from '../helpers/needs.ts'
import { makeOvirtDomain, metaText, metaValues, uuid } from '../helpers/ovirt.ts'
import { descendants, until, untilGone } from '../helpers/processes.ts'
import { recordOf } from '../helpers/records.ts'
import { steering, strangeIn } from '../helpers/unprintable.ts'

needs('qemu-img')

t.setTimeout(180_000)

const main = fileURLToPath(new URL('../../dist/main.js', import.meta.url))
/** As it can be in a name of a file, and in one of snapshots. */
const inName = steering.replaceAll(/[\r\n]/g, '')
const ovirt = uuid('domain')
const disk = uuid('disk')

/** Domains in which everything that can hold text holds what steers a terminal. */
async function makeDomains (top: string): Promise<object[]> {
  const local = join(top, 'local')
  for (const room of ['copies', 'leases', 'parts', 'hosts']) await mkdir(join(local, '.vdsm-tasks', room), { recursive: true })
  await writeFile(join(local, '.vdsm-tasks/domain.json'), '{"id":"local"}')
  await makeDisk(join(local, 'source.raw'), MiB)
  await sh('qemu-img', 'convert', '-O', 'qcow2', join(local, 'source.raw'), join(local, 'snapshots.qcow2'))
  await sh('qemu-img', 'snapshot', '-c', inName, join(local, 'snapshots.qcow2'))
  await writeFile(join(local, 'backing.qcow2'), Buffer.concat([qcow2Header({ backing: steering, backingFormat: 'raw' }), Buffer.alloc(MiB)]))
  await writeFile(join(local, 'format.qcow2'), Buffer.concat([qcow2Header({ backing: 'source.raw', backingFormat: inName }), Buffer.alloc(MiB)]))
  for (const name of ['snapshots.qcow2', 'backing.qcow2', 'format.qcow2']) await makeOld(join(local, name))
  const record = recordOf({ image: 'wrong.raw' })
  for (const [image, more] of Object.entries({
    'host.raw': { host: { id: steering } },
    'task.raw': { taskId: steering },
    'extra.raw': { [steering]: steering },
    'phase.raw': { phase: steering },
    'source.qcow2': { source: { ...record.source, domain: steering } },
    'image.raw': { image: steering }
  })) await writeFile(join(local, `.vdsm-tasks/copies/${image}.json`), JSON.stringify({ ...record, image, ...more }))
  await writeFile(join(local, '.vdsm-tasks/copies/text.raw.json'), steering)
  await writeFile(join(local, '.vdsm-tasks/hosts/0123456789abcdef0123456789abcdef'), JSON.stringify({ version: 1, hostId: steering, instance: steering }))
  await writeFile(join(local, `${inName}.raw`), '')

  const other = join(top, 'other')
  await mkdir(join(other, '.vdsm-tasks'), { recursive: true })
  await writeFile(join(other, '.vdsm-tasks/domain.json'), JSON.stringify({ id: steering }))
  const crowded = join(top, 'crowded')
  await mkdir(crowded)
  await writeFile(join(crowded, inName), '')

  const path = await makeOvirtDomain(top, ovirt)
  await mkdir(join(path, 'images', disk))
  for (const [name, more] of Object.entries({ description: { DESCRIPTION: inName }, format: { FORMAT: inName }, parent: { PUUID: inName }, key: { [inName]: 'x' }, legality: { LEGALITY: inName } })) {
    const volume = join(path, 'images', disk, uuid(name))
    await makeDisk(volume, MiB)
    await writeFile(`${volume}.meta`, metaText(metaValues(ovirt, disk, { DESCRIPTION: 'plain', ...more })))
  }
  return [
    { id: 'local', path: local }, { id: 'other', path: other }, { id: 'crowded', path: crowded, create: true }, { id: 'missing', path: join(top, inName) },
    { id: ovirt, layout: 'ovirt', path }
  ]
}

for (const isTTY of [false, true]) {
  t.test(`nothing hostile is logged or printed raw, ${isTTY ? 'to a terminal' : 'to a file'}`, async t => {
    const top = await temporaryDirectory(t)
    const config = join(top, 'config.json')
    const socket = join(top, 'agent.sock')
    await writeFile(config, JSON.stringify({ listen: { unix: socket }, domains: await makeDomains(top), log: { level: 'trace' } }))
    const agent = [process.execPath, main, '--config', config]
    // script(1) gives it a terminal, as long as its own input does not end
    const argv = isTTY ? ['script', '--quiet', '--flush', '--command', agent.join(' '), '/dev/null'] : agent
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], { stdio: ['pipe', 'pipe', 'pipe'], env: { PATH: process.env['PATH'] } })
    let said = ''
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => { said += text })
    t.teardown(async () => {
      const below = descendants(child.pid ?? 0)
      // script ends by itself as soon as its program has
      for (const pid of below) try { process.kill(pid, 'SIGKILL') } catch { /* gone already */ }
      child.kill('SIGKILL')
      await untilGone(...below)
    })
    await until(() => said.includes('listens on'), 'the agent')

    const commands = [['domains'], ['images'], ['fixes'], ['fixes', '--apply'], ['tasks'], ['images', ovirt], ['status', `${ovirt}/${disk}`], ['copies', 'local'], ['operations'],
      ...['host.raw', 'task.raw', 'extra.raw', 'phase.raw', 'source.qcow2', 'image.raw', 'text.raw', 'backing.qcow2', 'format.qcow2', 'snapshots.qcow2', inName].map(image => ['status', `local/${image}`]),
      ...['backing.qcow2', 'format.qcow2', 'snapshots.qcow2', 'host.raw', inName].map((image, index) => ['copy', `local/${image}`, `local/copy-${index}.raw`]),
      ...['host.raw', 'text.raw', 'extra.raw'].flatMap(image => [['mend', `local/${image}`], ['delete', `local/${image}`]]),
      ...['description', 'format', 'parent', 'key', 'legality'].map(name => ['copy', `${ovirt}/${disk}/${uuid(name)}`, `local/${name}.raw`]),
      ['copy', 'local/source.raw', 'other/x.raw'], ['copy', 'local/source.raw', 'crowded/x.raw'], ['copy', 'local/source.raw', `local/${inName}.raw`, '--id', inName]]
    let characters = 0
    for (const command of commands) {
      for (const json of [[], ['--json']]) {
        const { stdout, stderr } = await runHere([...command, ...json], { isTTY, env: { VDSM_TASKS_URL: `unix:${socket}` } })
        characters += stdout.length + stderr.length
        t.equal(strangeIn(stdout) ?? strangeIn(stderr), undefined, [...command, ...json].join(' ').replaceAll(inName, 'ATTACK'))
      }
    }
    t.ok(characters > 1000, 'the command line has said something')
    // what callers put into paths, headers and bodies
    for (const [method, path, body] of [['GET', `/tasks/${encodeURIComponent(steering)}`, ''], ['PUT', '/tasks/x', JSON.stringify({ kind: steering, [steering]: steering })], ['PUT', '/tasks/x', steering],
      ['GET', `/domains/${encodeURIComponent(steering)}/images/${encodeURIComponent(steering)}`, ''], ['GET', `/${encodeURIComponent(steering)}?${encodeURIComponent(steering)}=${encodeURIComponent(steering)}`, '']] as const) {
      const sent = request({ socketPath: socket, method, path, headers: { host: 'localhost', 'content-type': 'application/json', 'user-agent': 'x\u009by' } }).end(body)
      const [reply] = await once(sent, 'response')
      reply.resume()
      await once(reply, 'end')
    }
    await until(() => said.includes(isTTY ? 'request refused' : '"path":"/domains/'), 'the last request in the log')
    // script and terminals end their lines with both
    t.equal(strangeIn(isTTY ? said.replaceAll('\r\n', '\n') : said), undefined)
    t.match(said, /\\u(001b|202e)/, 'it was there, escaped')
    t.notMatch(said, /^gnp/m)
  })
}
