import { Type } from '@sinclair/typebox'
import { problems } from './responses.ts'
import type { App } from './types.ts'

/** What the route needs of the measures. */
export interface MetricsText {
  readonly contentType: string
  text (): Promise<string>
}

/** `GET /metrics`, for Prometheus and whatever reads its text format. */
export function metricsRoutes (app: App, { metrics }: { metrics: MetricsText }): void {
  app.get('/metrics', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getMetrics',
      tags: ['agent'],
      summary: 'Read the measures of the agent',
      description: 'In the text format of Prometheus. Reading them asks neither the storage nor Gluster, so it is answered also while those hang.',
      response: { 200: { description: 'The measures.', content: { 'text/plain': { schema: Type.String() } } }, ...problems({}) }
    }
  }, async (_request, reply) => await reply.type(metrics.contentType).send(await metrics.text()))
}
