import { GlusterVolumeList, Operation, OperationId, OperationList } from '../api/operation.ts'
import { Ref, Strict } from '../api/schema.ts'
import type { Operations } from '../gluster/operations.ts'
import { json, problems } from './responses.ts'
import type { App } from './types.ts'

const failures = problems({
  502: 'Gluster\'s answer cannot be understood; `excerpt` shows its beginning.',
  503: 'Gluster is not installed, its daemon is down, or it is busy.',
  504: 'Gluster does not answer.'
})

/** `GET /gluster/volumes` and `GET /gluster/operations`. What they answer was seen at most 2 s ago. */
export function glusterRoutes (routes: App, { operations }: { operations: Pick<Operations, 'list' | 'find' | 'volumes'> }): void {
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
      description: 'What runs on the volumes, has run last, or waits to be committed: the same from every host, whoever started it. Gluster keeps one operation for each volume.',
      tags: ['gluster'],
      response: { 200: json('The operations.', Ref(OperationList)), ...failures }
    }
  }, () => operations.list())

  routes.get('/gluster/operations/:operationId', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getOperationStatus',
      summary: 'One rebalance or brick removal',
      description: 'How far it is, host by host. An operation that was stopped, committed or replaced by a newer one is not found: Gluster has forgotten it.',
      tags: ['gluster'],
      params: Strict({ operationId: OperationId }),
      response: { 200: json('The operation.', Ref(Operation)), ...problems({ 400: 'The id is malformed.', 404: 'Gluster knows of no such operation.' }), ...failures }
    }
  }, ({ params }) => operations.find(params.operationId))
}
