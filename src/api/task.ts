import { Type, type Static } from '@sinclair/typebox'
import { Bytes, Ref, Strict, Time, Words } from './schema.ts'
import { TaskId } from './names.ts'
import { Dropped, TaskResult, TaskSpec } from './kinds.ts'
import { OperationId } from './operation.ts'
import { Problem } from './problem.ts'

export const taskStates = ['pending', 'running', 'canceling', 'succeeded', 'failed', 'canceled', 'rejected'] as const
export const TaskState = Words(taskStates, {
  description: '`pending`: accepting, nothing is durable yet; `running`: the object is durable; `canceling`: stopping; then `succeeded`, `failed`, `canceled`, or `rejected` when nothing was changed.'
})
export type TaskState = Static<typeof TaskState>

export const Progress = Strict({
  phase: Words(['queued', 'copying', 'verifying']),
  queuePosition: Type.Optional(Type.Integer({ minimum: 1, description: 'How many wait before this one, itself included.' })),
  bytesTotal: Type.Optional(Bytes('The virtual size.')),
  bytesDone: Type.Optional(Bytes('Bytes of the virtual disk that are settled and durable; holes count when they are settled.')),
  bytesToMove: Type.Optional(Bytes('Data that the copy reads and writes in all, those of its runs before this one included. Percentages and estimates are of this: most of a disk may be empty.')),
  bytesMoved: Type.Optional(Bytes('How much of that is durable.')),
  bytesPerSecond: Type.Optional(Bytes('Data moved per second, lately.')),
  etaSeconds: Type.Optional(Type.Number({ minimum: 0, description: 'Estimated from the data left to move and the rate.' })),
  bandwidth: Type.Optional(Bytes('The limit in force, bytes per second.')),
  stalledSince: Type.Optional(Time(
    'Since when nothing goes on: the storage of the source or of the target does not answer, or a process of the task is stopped or ' +
    'hangs; absent while all is well. When it goes on, so does the task, by itself. Until then the task can be canceled, and is ' +
    '`canceled` when the storage has let go of it; it takes none of the places for copies.'
  )),
  stalledProcess: Type.Optional(Strict({
    pid: Type.Integer({ minimum: 1, description: 'On the host of the agent.' }),
    name: Type.String({ description: '`copy worker`, or the program that it runs.' }),
    state: Words(['stopped', 'hung'], {
      description: '`stopped`: by SIGSTOP or the like, SIGCONT lets it go on; `hung`: it waits for something that does not come, as a rule the storage.'
    })
  }, { description: 'The process that does not go on, where it is known.' }))
}, { $id: 'Progress' })
export type Progress = Static<typeof Progress>

export const Task = Strict({
  id: TaskId,
  runId: Type.String({ description: 'Names this execution for ever; the id may be used again.' }),
  kind: Type.String({ description: 'What the task does.' }),
  spec: Ref(TaskSpec),
  specDigest: Type.String({ description: 'SHA-256 over the RFC 8785 form of the accepted body, defaults applied.' }),
  state: TaskState,
  cancelable: Type.Boolean({ description: 'A DELETE ends it before it would end by itself; false once it has finished.' }),
  progress: Type.Optional(Ref(Progress)),
  operationId: Type.Optional(OperationId),
  result: Type.Optional(TaskResult),
  error: Type.Optional(Ref(Problem)),
  createdAt: Time('When the task was created.'),
  startedAt: Type.Optional(Time('When the object was durable.')),
  endedAt: Type.Optional(Time('When the task finished.')),
  expiresAt: Type.Optional(Time('When the finished task will be forgotten.')),
  replaces: Type.Optional(Type.String({ description: 'The ETag of the finished run whose id this run took over.' })),
  revision: Type.Integer({ minimum: 0, description: 'Counts transitions.' }),
  tick: Type.Integer({ minimum: 0, description: 'Counts published progress.' }),
  instance: Type.String({ description: 'The run of the agent that holds the task in memory.' })
}, { $id: 'Task', description: 'A task. Tasks live in memory: a restart of the agent forgets them all; what they made stays.' })
export type Task = Static<typeof Task>

export const TaskList = Strict({
  instance: Type.String({ description: 'The run of the agent that was asked.' }),
  lastEventId: Type.String({ description: 'Follow /events from here, and nothing that happened since this list was made is missed.' }),
  items: Type.Array(Ref(Task)),
  next: Type.Optional(Type.String({ description: 'The cursor of the next page; absent on the last.' }))
}, { $id: 'TaskList', description: 'A page of tasks, oldest first.' })
export type TaskList = Static<typeof TaskList>

export const Preview = Strict({
  outcome: Words(['created', 'joined', 'stored'], { description: 'What a PUT would do: a new run, join the one under way, or answer with the stored result.' }),
  task: Type.Optional(Ref(Task)),
  plan: Type.Optional(Type.Object({
    outcome: Type.Optional(Type.String({
      description: 'In a word: `copy`, `replace`, `continue`, `finish`, `already-done`, `create` or `delete`, for example.'
    })),
    bytesTotal: Type.Optional(Bytes('The virtual size.')),
    bytesDone: Type.Optional(Bytes('How many of them are durable on the target.')),
    bytesToMove: Type.Optional(Bytes('Bytes of data that are going to be read and written.')),
    bytesNeeded: Type.Optional(Bytes('About as much space as the copy takes.')),
    bytesFree: Type.Optional(Bytes('What is free in the domain of the target.')),
    bytesReserved: Type.Optional(Bytes(
      'What of that other copies are still going to take up, and what is kept back for records.'
    )),
    dropped: Type.Optional(Ref(Dropped)),
    warnings: Type.Optional(Type.Array(Type.String(), {
      description: 'What may be wrong with the source: it looks like another format than the one it is read in, or a base was written ' +
        'after its overlay, as far as times show.'
    }))
  }, { additionalProperties: true, description: 'What a new run would do; depends on the kind.' }))
}, { $id: 'Preview', description: 'What accepting would answer. Nothing was recorded or changed.' })
export type Preview = Static<typeof Preview>
