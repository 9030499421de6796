import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { listing, temporaryDirectory } from '../helpers/directory.ts'
import { attack, Fuzzer, type Finding } from '../helpers/fuzz.ts'
import { makeDisk, MiB, sh } from '../helpers/images.ts'
import { startServe } from '../helpers/serve.ts'

// npm run fuzz does it for longer, and says with which seed
const seconds = Number(process.env['FUZZ_SECONDS'] ?? 8)
const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 2 ** 31)

t.setTimeout((seconds + 60) * 1000)

/** Bytes that a process has in memory. */
async function residentBytes (pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

t.test(`whatever comes in, the agent neither fails nor grows nor leaves its domains (seed ${seed})`, async t => {
  const top = await temporaryDirectory(t)
  await mkdir(join(top, 'domain'))
  await mkdir(join(top, 'outside'))
  await writeFile(join(top, 'outside/secret.raw'), 'secret')
  // so that what is valid is done
  await makeDisk(join(top, 'domain/sample.raw'), MiB)
  await sh('mkdir', '-p', join(top, 'domain/.vdsm-tasks'))
  await writeFile(join(top, 'domain/.vdsm-tasks/domain.json'), '{"id":"local"}')
  const agent = await startServe(t, top, { listen: { port: 0 }, domains: [{ id: 'local', path: join(top, 'domain'), create: true }], tasks: { retentionSeconds: 1 }, log: { level: 'error' } })
  const { port } = new URL(agent.addresses[0] ?? '')
  const instance = async () => (await fetch(`http://127.0.0.1:${port}/healthz`)).headers.get('agent-instance')
  const [first, outside] = [await instance(), await listing(join(top, 'outside'))]

  const fuzzer = new Fuzzer(seed)
  const findings: Finding[] = []
  const began = performance.now()
  let sent = 0
  const samples: Array<Promise<number>> = []
  const attackers = Array.from({ length: 16 }, async () => {
    for (;;) {
      const done = (performance.now() - began) / 1000 / seconds
      if (done >= 1 || findings.length > 5) return
      if (done >= (samples.length + 1) / 4) samples.push(residentBytes(agent.pid))
      const bytes = fuzzer.next()
      const finding = await attack(Number(port), bytes, fuzzer.manner(bytes))
      sent++
      if (finding !== undefined) findings.push(finding)
    }
  })
  await Promise.all(attackers)
  t.comment(`${sent} connections, ${(await Promise.all(samples)).map(bytes => `${Math.round(bytes / 2 ** 20)} MiB`).join(', ')} resident`)
  t.same(findings.map(({ why, sent, got }) => ({ why, sent: sent.slice(0, 2000), got: got.slice(0, 2000) })), [])
  t.ok(sent > seconds * 20, 'it was really attacked')
  t.equal(await instance(), first, 'it is the same process')
  const errors = agent.said().split('\n').filter(line => /"level":(50|60)/.test(line) && !/"code":"(gluster-unavailable|gluster-unresponsive|agent-overloaded)"/.test(line))
  t.same(errors.slice(0, 5), [], 'nothing unexpected is in the log')
  t.same(await listing(join(top, 'outside')), outside, 'nothing outside was touched')
  t.same((await listing(top)).filter(line => !/^(domain|outside|config\.json)/.test(line)), [], 'nothing was made elsewhere')
  const [second = 0, last] = [await samples[1], await residentBytes(agent.pid)]
  // the heap grows until it is collected; what leaks grows beyond
  t.ok(last - second < 150 * 2 ** 20, `from ${second} to ${last} bytes resident`)
})
