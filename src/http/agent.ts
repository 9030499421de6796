import { Agent } from '../api/agent.ts'
import { Type } from '@sinclair/typebox'
import { Ref, Strict } from '../api/schema.ts'
import { json, problems } from './responses.ts'
import type { App } from './types.ts'

/** Who the agent is, and that it lives. */
export function agentRoutes (app: App, { agent }: { agent: Agent }): void {
  app.get('/agent', {
    schema: {
      operationId: 'getAgent',
      tags: ['agent'],
      summary: 'Read who the agent is and what its limits are',
      response: { 200: json('The agent.', Ref(Agent)), ...problems({}) }
    }
  }, async () => agent)

  app.get('/healthz', {
    schema: {
      operationId: 'getHealth',
      tags: ['agent'],
      summary: 'Ask whether the agent is alive',
      description: 'Says nothing about the storage: see /domains.',
      response: { 200: json('It is.', Strict({ status: Type.Literal('alive') })), ...problems({}) }
    }
  }, async () => ({ status: 'alive' as const }))
}
