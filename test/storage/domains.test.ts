import t from 'tap'
import type { Domain, DomainOptions } from '../../src/storage/attached-domain.ts'
import { Domains } from '../../src/storage/domains.ts'
import { turn } from '../helpers/http-agent.ts'

t.test('the processes of domains are started a few at a time, and those of detached domains not at all', async t => {
  const started: string[] = []
  const listening: Array<() => void> = []
  const stopped: string[] = []
  const make = ({ id }: DomainOptions) => {
    const domain: Partial<Domain> = {
      start: async () => {
        started.push(id)
        await new Promise<void>(resolve => { listening.push(resolve) })
      },
      stop: () => { stopped.push(id) },
      setLeaving: () => {}
    }
    return domain as Domain
  }
  const options = Array.from({ length: 7 }, (_, at) => ({ id: `d${at}`, path: `/d${at}` }) as DomainOptions)
  const domains = new Domains(make, options)
  t.strictSame(started, [])
  domains.start()
  t.strictSame(started, ['d0', 'd1', 'd2', 'd3'])
  listening[1]?.()
  await turn()
  t.strictSame(started.slice(4), ['d4'])
  domains.reconcile(options.filter(({ id }) => id !== 'd5'))
  for (const listens of listening.splice(0)) listens()
  await turn()
  t.strictSame(started.slice(5), ['d6'])
  t.strictSame(stopped, ['d5'])
  domains.stop()
})
