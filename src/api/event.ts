import { Type, type Static } from '@sinclair/typebox'
import { Discriminated, Ref, Strict, Time, Words } from './schema.ts'
import { DomainId, ImageName, TaskId } from './names.ts'
import { Operation } from './operation.ts'
import { Progress, Task } from './task.ts'

/** The frames that `type` selects. The others (`synced`, `reset`, `bye`, `busy`) speak of the stream itself and always come. */
export const eventTypes = ['task', 'operation', 'image', 'forgotten', 'progress', 'operationProgress'] as const
export type EventType = (typeof eventTypes)[number]

const EventId = Type.String({
  description: 'The cursor: `<instance>-<sequence>`. Sent back as `Last-Event-ID` (or `?lastEventId=`) it continues the stream right after this frame.',
  examples: ['5f0c9f1e-1042']
})

export const TaskProgress = Strict({
  instance: Type.String({ description: 'The run of the agent that holds the task in memory.' }),
  id: TaskId,
  runId: Type.String({ description: 'The execution that the numbers belong to.' }),
  revision: Type.Integer({ minimum: 0, description: 'The revision of the task; numbers of an older revision than one already seen are stale.' }),
  tick: Type.Integer({ minimum: 0, description: 'Counts published progress of the task.' }),
  progress: Ref(Progress)
}, { $id: 'TaskProgress', description: 'How far a task is.' })
export type TaskProgress = Static<typeof TaskProgress>

export const ForgottenTask = Strict({
  id: TaskId,
  runId: Type.Optional(Type.String({ description: 'The execution that was forgotten; absent when nothing but the id is known any more.' }))
}, { $id: 'ForgottenTask', description: 'A task that the agent no longer remembers.' })
export type ForgottenTask = Static<typeof ForgottenTask>

export const ImageChange = Strict({
  domain: DomainId,
  image: ImageName,
  state: Words(['ok', 'copying', 'interrupted', 'illegal', 'absent'], { description: 'The state of the image as of now; `absent`: there is no such image any more.' }),
  taskId: Type.Optional(TaskId),
  observedAt: Time('When the change was made or found.')
}, { $id: 'ImageChange', description: 'An image changed. Its whole status is at `/domains/{domain}/images/{image}`.' })
export type ImageChange = Static<typeof ImageChange>

export const TaskEvent = Strict({
  event: Type.Literal('task'),
  id: Type.Optional(EventId),
  data: Ref(Task)
}, { $id: 'TaskEvent', description: 'The task as it is after a transition, or as the snapshot at the beginning of a stream shows it (then without `id`).' })

export const OperationEvent = Strict({
  event: Type.Literal('operation'),
  id: Type.Optional(EventId),
  data: Ref(Operation)
}, { $id: 'OperationEvent', description: 'A Gluster operation changed its state.' })

export const ImageEvent = Strict({
  event: Type.Literal('image'),
  id: Type.Optional(EventId),
  data: Ref(ImageChange)
}, { $id: 'ImageEvent', description: 'The agent changed an image, or found it changed.' })

export const ForgottenEvent = Strict({
  event: Type.Literal('forgotten'),
  id: Type.Optional(EventId),
  data: Ref(ForgottenTask)
}, { $id: 'ForgottenEvent', description: 'A finished task was forgotten before its `expiresAt`. Expiry itself has no event.' })

export const ProgressEvent = Strict({
  event: Type.Literal('progress'),
  data: Ref(TaskProgress)
}, { $id: 'ProgressEvent', description: 'The newest numbers of a running task. At most two a second; a slow reader gets fewer.' })

export const OperationProgressEvent = Strict({
  event: Type.Literal('operationProgress'),
  data: Ref(Operation)
}, { $id: 'OperationProgressEvent', description: 'The newest numbers of a Gluster operation whose state is unchanged. A slow reader gets fewer.' })

export const SyncedEvent = Strict({
  event: Type.Literal('synced'),
  id: EventId,
  data: Strict({ instance: Type.String({ description: 'The run of the agent that answers.' }) })
}, { $id: 'SyncedEvent', description: 'The stream has caught up: what follows happens now.' })

export const resetReasons = ['instance-changed', 'evicted', 'future', 'malformed', 'overtaken', 'forgotten'] as const
export type ResetReason = (typeof resetReasons)[number]

export const ResetEvent = Strict({
  event: Type.Literal('reset'),
  data: Strict({
    reason: Words(resetReasons, {
      description: '`instance-changed`: the agent was restarted; `evicted`: too much has happened since; `future`, `malformed`: no cursor of this agent; `overtaken`: too much happened while the snapshot was read; `forgotten`: the task is not known any more.'
    })
  })
}, { $id: 'ResetEvent', description: 'Something may have been missed. Throw away what you know; all that still holds follows.' })

export const ByeEvent = Strict({
  event: Type.Literal('bye'),
  data: Strict({ reason: Words(['stopping']) })
}, { $id: 'ByeEvent', description: 'The agent is stopping and ends the stream. Connect again: tasks of a stopped agent are forgotten, images are not.' })

const busyLimits = ['streams', 'streamsPerAddress', 'requestsPerSecond'] as const
export type BusyLimit = (typeof busyLimits)[number]

export const BusyEvent = Strict({
  event: Type.Literal('busy'),
  data: Strict({
    limit: Words(busyLimits, { description: 'Which limit was reached.' }),
    maximum: Type.Integer({ minimum: 0, description: 'How many are allowed.' })
  })
}, { $id: 'BusyEvent', description: 'There are as many streams as may be, or they are begun too often. The stream ends; the `retry:` line says when to come again.' })

const frames = [
  TaskEvent, OperationEvent, ImageEvent, ForgottenEvent, ProgressEvent, OperationProgressEvent, SyncedEvent, ResetEvent, ByeEvent, BusyEvent
] as const

export const AgentEvent = Discriminated('event', frames, {
  $id: 'AgentEvent',
  description: 'One frame of an event stream as a parser of `text/event-stream` hands it out: its `event` name, its `id`, and its `data` parsed as JSON.'
})
export type AgentEvent = Static<typeof AgentEvent>

/** Every schema of this file that others refer to. */
export const eventSchemas = [...frames, TaskProgress, ForgottenTask, ImageChange, AgentEvent] as const
