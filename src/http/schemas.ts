import { Agent, Caller, ConfigurationStatus, Readiness } from '../api/agent.ts'
import { DomainStatus } from '../api/domain.ts'
import { eventSchemas } from '../api/event.ts'
import { CommitRemoveBrick, FinalNumbers, ReplaceBrick, ResetBrick, StartRemoveBrick, StartVolumeRebalance, StopRemoveBrick, StopVolumeRebalance } from '../api/gluster-kinds.ts'
import { BrokenImage, Copy, CopyProgress, Fix, ImageEntry, ImageStatus, Volume, VolumeInfo } from '../api/image.ts'
import { CopyImage, CreateImage, DeleteImage, Dropped, ForgetCopy, MendImage, resultSchemas, TaskSpec, VerifyImage } from '../api/kinds.ts'
import { GlusterBrick, GlusterVolume, GlusterVolumeList, Operation, OperationEstimate, OperationList, OperationNode, OperationRate, OperationTotals } from '../api/operation.ts'
import { Problem } from '../api/problem.ts'
import { Preview, Progress, Task, TaskList } from '../api/task.ts'
import type { App } from './types.ts'

/** Every schema that others refer to by its name. */
export function addSchemas (app: App): void {
  const schemas = [
    Problem, Agent, Caller, ConfigurationStatus, Readiness, DomainStatus, CopyProgress, Copy, CopyImage, MendImage, CreateImage, DeleteImage, ForgetCopy, VerifyImage, TaskSpec,
    Dropped, Fix, BrokenImage, ImageEntry, VolumeInfo, Volume, ImageStatus, Progress, Task, TaskList, Preview,
    StartVolumeRebalance, StopVolumeRebalance, StartRemoveBrick, StopRemoveBrick, CommitRemoveBrick, ReplaceBrick, ResetBrick, FinalNumbers,
    GlusterBrick, GlusterVolume, GlusterVolumeList, OperationList, Operation, OperationEstimate, OperationNode, OperationRate, OperationTotals, ...resultSchemas, ...eventSchemas
  ]
  for (const schema of schemas) app.addSchema(schema)
}
