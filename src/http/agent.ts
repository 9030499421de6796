import { Agent, Caller, ConfigurationStatus, Readiness } from '../api/agent.ts'
import { Type } from '@sinclair/typebox'
import { Problem } from '../api/problem.ts'
import { Ref, Strict } from '../api/schema.ts'
import type { Config } from '../config.ts'
import { AppError } from '../errors.ts'
import type { Operations } from '../gluster/operations.ts'
import type { Domains } from '../storage/domains.ts'
import { json, problems } from './responses.ts'
import type { App } from './types.ts'

/** What these routes tell of, and what they change. */
export interface AgentParts {
  agent: () => Promise<Agent>
  config: Config
  domains: Pick<Domains, 'all'>
  operations: Pick<Operations, 'lastAvailability'>
  reloader: { readonly status: ConfigurationStatus, reload (): Promise<ConfigurationStatus> }
}

/** Who the agent is, and that it lives. */
export function agentRoutes (app: App, { agent, config, domains, operations, reloader }: AgentParts): void {
  app.get('/agent', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getAgent',
      tags: ['agent'],
      summary: 'Read who the agent is and what its limits are',
      response: { 200: json('The agent.', Ref(Agent)), ...problems({}) }
    }
  }, async () => await agent())

  app.get('/agent/caller', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getCaller',
      tags: ['agent'],
      summary: 'Read who you are to the agent, and what you may do',
      response: { 200: json('The caller.', Ref(Caller)), ...problems({}) }
    }
  }, async (request, reply) => {
    reply.header('cache-control', 'no-store')
    if (request.caller === undefined) throw new Error('a route with a scope has a caller')
    const { who, via, scope } = request.caller
    return { who, via, scope }
  })

  app.get('/agent/config', {
    config: { scope: 'admin' },
    schema: {
      operationId: 'getConfig',
      tags: ['agent'],
      summary: 'Read the configuration in force',
      description: 'As `--show-config` prints it. It has the paths of keys and tokens, never what is in them.',
      response: { 200: json('The configuration, with every default.', Type.Object({}, { additionalProperties: true })), ...problems({}) }
    }
  }, async () => ({ ...config }))

  app.post('/agent/reload', {
    config: { scope: 'admin' },
    schema: {
      operationId: 'reloadConfig',
      tags: ['agent'],
      summary: 'Read the configuration again, as SIGHUP does, and tell the outcome',
      description: 'Tokens, certificates, clients and domains change with it; everything else takes a restart. Whatever is wrong with the rest, tokens and clients that the files do not list any more are not accepted from then on. It may be sent again.',
      response: {
        200: json('All of it is in force.', Ref(ConfigurationStatus)),
        ...problems({ 422: 'Something is wrong: tokens and clients are those that could still be read, and everything else stays as it was. `configuration` has the details.' })
      }
    }
  }, async () => {
    const status = await reloader.reload()
    if (status.state === 'current') return status
    throw new AppError('reload-failed', `${status.problems?.join(' ')} Tokens and clients are in force as far as they could be read; everything else stays as it was.`, { members: { configuration: status } })
  })

  app.get('/healthz', {
    config: { scope: 'open', vital: true },
    schema: {
      operationId: 'getHealth',
      tags: ['agent'],
      summary: 'Ask whether the agent is alive',
      description: 'Says nothing about the storage: see /domains.',
      response: { 200: json('It is.', Strict({ status: Type.Literal('alive') })), ...problems({}) }
    }
  }, async () => ({ status: 'alive' as const }))

  app.get('/readyz', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getReadiness',
      tags: ['agent'],
      summary: 'Ask what the agent can work on',
      description: '200 while every domain is available, with its leases, 503 otherwise. Answers at once, from what was seen last: a domain is looked at every 5 s, and with every request. Gluster and a configuration that could not be read again are told of, but keep no host from copying.',
      response: {
        200: json('Every domain is available.', Ref(Readiness)),
        ...problems({}),
        503: {
          description: 'Some domain is not available; or, as a problem, the agent has more to do than it can.',
          content: { 'application/json': { schema: Ref(Readiness) }, 'application/problem+json': { schema: Ref(Problem) } }
        }
      }
    }
  }, async (_request, reply) => {
    const statuses = domains.all().map(domain => domain.lastStatus())
    const gluster = await operations.lastAvailability()
    const ready = statuses.every(({ state, leases }) => state === 'available' && (leases === undefined || leases.state === 'ready'))
    if (!ready) reply.code(503)
    return {
      ready,
      domains: statuses.map(({ domain, state, code, detail, leases }) => ({ domain, state, ...(code !== undefined && { code }), ...(detail !== undefined && { detail }), ...(leases !== undefined && { leases }) })),
      gluster: { available: gluster.available, ...(!gluster.available && { code: gluster.code, detail: gluster.detail }) },
      configuration: reloader.status
    }
  })
}
