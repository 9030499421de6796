import type { components, operations } from './openapi.d.ts'

// The words of the API, as the OpenAPI document has them.
export type Schemas = components['schemas']
export type Task = Schemas['Task']
export type TaskSpec = Schemas['TaskSpec']
export type TaskList = Schemas['TaskList']
export type Preview = Schemas['Preview']
export type Problem = Schemas['Problem'] & Record<string, unknown>
export type Agent = Schemas['Agent']
export type Caller = Schemas['Caller']
export type ConfigurationStatus = Schemas['ConfigurationStatus']
export type DomainStatus = Schemas['DomainStatus']
export type ImageStatus = Schemas['ImageStatus']
export type ImageEntry = Schemas['ImageEntry']
export type BrokenImage = Schemas['BrokenImage']
export type Copy = Schemas['Copy']
export type Progress = Schemas['Progress']
export type Operation = Schemas['Operation']
export type OperationList = Schemas['OperationList']
export type AgentEvent = Schemas['AgentEvent']
export type ListQuery = NonNullable<operations['listTasks']['parameters']['query']>
export type OperationQuery = NonNullable<operations['getOperationStatuses']['parameters']['query']>
export type EventQuery = Pick<NonNullable<operations['followEvents']['parameters']['query']>, 'type' | 'kind' | 'idPrefix'>
