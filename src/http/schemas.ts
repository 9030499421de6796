import { Agent } from '../api/agent.ts'
import { DomainStatus } from '../api/domain.ts'
import { eventSchemas } from '../api/event.ts'
import { BrokenImage, Copy, CopyProgress, Fix, ImageEntry, ImageStatus } from '../api/image.ts'
import { CopyImage, CreateImage, DeleteImage, MendImage, TaskSpec, VerifyImage } from '../api/kinds.ts'
import { Operation, OperationEstimate, OperationNode, OperationRate, OperationTotals } from '../api/operation.ts'
import { Problem } from '../api/problem.ts'
import { Preview, Progress, Task, TaskList } from '../api/task.ts'
import type { App } from './types.ts'

/** Every schema that others refer to by its name. */
export function addSchemas (app: App): void {
  const schemas = [
    Problem, Agent, DomainStatus, CopyProgress, Copy, CopyImage, MendImage, CreateImage, DeleteImage, VerifyImage, TaskSpec,
    Fix, BrokenImage, ImageEntry, ImageStatus, Progress, Task, TaskList, Preview,
    Operation, OperationEstimate, OperationNode, OperationRate, OperationTotals, ...eventSchemas
  ]
  for (const schema of schemas) app.addSchema(schema)
}
