import { Type } from '@sinclair/typebox'
import { GlusterVolumeList, Operation, OperationId, OperationList, operationStates, Throttle } from '../api/operation.ts'
import { Ref, Strict } from '../api/schema.ts'
import type { Operations } from '../gluster/operations.ts'
import { askUntil, goesOn, narrow } from './operation-wait.ts'
import { applied, maxWaitSeconds, parsePrefer } from './prefer.ts'
import { json, problems } from './responses.ts'
import type { Standing } from './standing.ts'
import type { App } from './types.ts'
import type { FastifyReply, FastifyRequest } from 'fastify'

const failures = problems({
  502: 'Gluster\'s answer cannot be understood; `excerpt` shows its beginning.',
  503: 'Gluster is not installed, its daemon is down, or it is busy.',
  504: 'Gluster does not answer.'
})

const headers = Type.Object({
  prefer: Type.Optional(Type.String({ description: `\`wait=N\`: wait until nothing of it runs any more, up to N seconds (at most ${maxWaitSeconds}).` }))
})
const list = (description: string) => Type.Optional(Type.Array(Type.String(), { description: `${description}, also separated by commas.` }))

export interface GlusterRoutesOptions {
  operations: Pick<Operations, 'list' | 'find' | 'volumes' | 'tune'>
  standing?: Pick<Standing, 'during'>
}

/** What Gluster tells, seen at most 2 s ago, and how hard its operations work. */
export function glusterRoutes (routes: App, { operations, standing }: GlusterRoutesOptions): void {
  /** Answers at once, or, if that is preferred, when nothing goes on any more. */
  const answer = async <T>(request: FastifyRequest, reply: FastifyReply, ask: () => Promise<T>, unfinished: (answer: T) => boolean): Promise<T> => {
    const { waitSeconds } = parsePrefer(request.headers.prefer)
    const preference = applied({ waitSeconds, respondAsync: false })
    const answer = await askUntil(ask, unfinished, (waitSeconds ?? 0) * 1000, request, standing)
    if (preference !== undefined) reply.header('preference-applied', preference)
    return answer
  }

  routes.get('/gluster/volumes', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getVolumes',
      summary: 'Gluster volumes and their bricks',
      description: 'Every volume of the cluster that this host belongs to, with the state and the space of its bricks and what runs on it.',
      tags: ['gluster'],
      response: { 200: json('The volumes.', Ref(GlusterVolumeList)), ...failures }
    }
  }, () => operations.volumes())

  routes.get('/gluster/operations', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getOperationStatuses',
      summary: 'Rebalances and brick removals',
      description: 'What runs on the volumes, has run last, or waits to be committed: the same from every host, whoever started it. Gluster keeps one operation for each volume. With `Prefer: wait=N` it waits until none of them runs any more.',
      tags: ['gluster'],
      headers,
      querystring: Strict({
        volume: list('Names of volumes'),
        state: list(`States: ${operationStates.join(', ')}`),
        taskId: list('Tasks that have started or claimed it')
      }),
      response: { 200: json('The operations.', Ref(OperationList)), ...problems({ 400: 'The request is malformed.' }), ...failures }
    }
  }, async (request, reply) => {
    const { state, ...filter } = request.query
    // who waits for the end of something waits for what it is now, not for what it is to become
    const select = async () => narrow(await operations.list(), filter)
    narrow({ items: [], observedAt: '' }, { state })
    return narrow(await answer(request, reply, select, goesOn), { state })
  })

  routes.get('/gluster/operations/:operationId', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getOperationStatus',
      summary: 'One rebalance or brick removal',
      description: 'How far it is, host by host. Of an operation that an agent has stopped or committed, the last numbers are told as long as no other takes its place (`ended`). One that was ended by other means, or replaced by a newer one, is not found: Gluster has forgotten it.',
      tags: ['gluster'],
      params: Strict({ operationId: OperationId }),
      headers,
      response: { 200: json('The operation.', Ref(Operation)), ...problems({ 400: 'The id is malformed.', 404: 'Gluster knows of no such operation.' }), ...failures }
    }
  }, async (request, reply) =>
    await answer(request, reply, async () => await operations.find(request.params.operationId), operation => goesOn({ items: [operation] })))

  routes.patch('/gluster/operations/:operationId', {
    config: { scope: 'operate' },
    schema: {
      operationId: 'tuneOperation',
      summary: 'Change how hard an operation works',
      description: 'Sets the option `cluster.rebal-throttle` of the volume, for what runs and for what comes. Refused while a host is away: it would forget its part of the operation.',
      tags: ['gluster'],
      params: Strict({ operationId: OperationId }),
      body: Strict({ throttle: Throttle }),
      response: {
        200: json('The operation, as it is now.', Ref(Operation)),
        ...problems({
          400: 'The request is malformed.',
          404: 'Gluster knows of no such operation.',
          409: 'It is over, or a host is away.',
          413: 'The body is too large.',
          415: 'The body is not JSON.'
        }),
        ...failures
      }
    }
  }, async ({ params, body }) => await operations.tune(params.operationId, body.throttle))
}
