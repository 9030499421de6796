import { Type, type Static } from '@sinclair/typebox'
import { Ref, Strict, Words } from './schema.ts'
import { BrickName, brickPattern, OperationId, OperationNode, OperationState, OperationTotals, Throttle, VolumeName } from './operation.ts'

const Bricks = Type.Array(BrickName, { minItems: 1, maxItems: 1000, uniqueItems: true, description: 'The bricks to remove; of a replicated or dispersed volume whole sets.' })
const Replica = Type.Integer({
  minimum: 1,
  maximum: 100,
  description: 'The new number of replicas, when that is to be reduced. Nothing is moved then: send `commitRemoveBrick` ' +
    'without a start.'
})
const Restart = Type.Boolean({
  default: false,
  description: 'When an operation is there in which nothing runs any more: stop it and start again. One that runs is ' +
    'claimed all the same. Before a brick removal is restarted, `cluster.lookup-optimize` is set to off: with it, ' +
    'GlusterFS 10 would not find some of the moved files by name. It may be set again after a rebalance.'
})

export const StartVolumeRebalance = Strict({
  kind: Type.Literal('gluster.startVolumeRebalance'),
  volume: VolumeName,
  mode: Type.Optional(Words(['rebalance', 'fix-layout'], { default: 'rebalance', description: '`rebalance` moves files to where they belong; `fix-layout` only lets new files go to new bricks.' })),
  force: Type.Optional(Type.Boolean({ default: false, description: 'Move files even to bricks that are fuller than the ones they are on.' })),
  restart: Type.Optional(Restart),
  throttle: Type.Optional(Throttle)
}, {
  $id: 'StartVolumeRebalance',
  description: 'Starts a rebalance. Succeeds when Gluster has registered it (GlusterFS 10 takes ten seconds for that); any host then tells how far it is. A rebalance that is in progress already is claimed, not an error; one in which nothing gets on (`stalledSince`) is refused with `operation-ended`, unless `restart` is set.',
  examples: [{ kind: 'gluster.startVolumeRebalance', volume: 'images', mode: 'rebalance' }]
})
export type StartVolumeRebalance = Static<typeof StartVolumeRebalance>

export const StopVolumeRebalance = Strict({
  kind: Type.Literal('gluster.stopVolumeRebalance'),
  volume: VolumeName
}, {
  $id: 'StopVolumeRebalance',
  description: 'Stops the rebalance, or puts a finished one on file. The result holds the final numbers: Gluster forgets them.',
  examples: [{ kind: 'gluster.stopVolumeRebalance', volume: 'images' }]
})
export type StopVolumeRebalance = Static<typeof StopVolumeRebalance>

export const StartRemoveBrick = Strict({
  kind: Type.Literal('gluster.startRemoveBrick'),
  volume: VolumeName,
  bricks: Bricks,
  replica: Type.Optional(Replica),
  restart: Type.Optional(Restart),
  throttle: Type.Optional(Throttle)
}, {
  $id: 'StartRemoveBrick',
  description: 'Starts moving the data off bricks. Succeeds when Gluster has registered it. When it is completed, ' +
    '`commitRemoveBrick` takes the bricks out. A removal of the same bricks that runs already is claimed; one in which ' +
    'nothing runs is refused with `operation-ended`, unless `restart` is set.',
  examples: [{ kind: 'gluster.startRemoveBrick', volume: 'images', bricks: ['node3:/bricks/1/images'] }]
})
export type StartRemoveBrick = Static<typeof StartRemoveBrick>

export const StopRemoveBrick = Strict({
  kind: Type.Literal('gluster.stopRemoveBrick'),
  volume: VolumeName,
  bricks: Bricks
}, {
  $id: 'StopRemoveBrick',
  description: 'Gives up the removal of bricks: they stay. Files that were moved stay where they are now. The result holds the final numbers: Gluster forgets them. Set `cluster.lookup-optimize` of the volume to off: with it, GlusterFS 10 no longer finds some of the moved files by name, although they are there.',
  examples: [{ kind: 'gluster.stopRemoveBrick', volume: 'images', bricks: ['node3:/bricks/1/images'] }]
})
export type StopRemoveBrick = Static<typeof StopRemoveBrick>

export const CommitRemoveBrick = Strict({
  kind: Type.Literal('gluster.commitRemoveBrick'),
  volume: VolumeName,
  bricks: Bricks,
  replica: Type.Optional(Replica),
  force: Type.Optional(Type.Boolean({
    default: false,
    description: 'Remove the bricks whatever is still on them, and without a look: **files that were not moved are lost ' +
      'to the volume**.'
  }))
}, {
  $id: 'CommitRemoveBrick',
  description: 'Takes bricks out of the volume after their data has been moved. Every brick is looked into first, ' +
    'whatever Gluster says of the removal: while a file is left on one (`bricks-not-empty`), or one cannot be looked ' +
    'into (`bricks-unchecked`), or files wait to be healed (`heals-pending`), it is refused. With a smaller `replica`, ' +
    'and without a start before, it takes copies out: then no file may wait to be healed. Sent again after that it ' +
    'succeeds with `alreadyDone`. `cluster.lookup-optimize` of the volume is set to off: with it, GlusterFS 10 does not ' +
    'find some of the moved files by name.',
  examples: [{ kind: 'gluster.commitRemoveBrick', volume: 'images', bricks: ['node3:/bricks/1/images'] }]
})
export type CommitRemoveBrick = Static<typeof CommitRemoveBrick>

const Brick = { volume: VolumeName, brick: BrickName }
const Force = Type.Optional(Type.Boolean({
  default: false,
  description: 'Although other bricks of the set do not answer, or files wait to be healed: **what only this brick has is lost.**'
}))

export const ReplaceBrick = Strict({
  kind: Type.Literal('gluster.replaceBrick'),
  ...Brick,
  by: Type.String({ pattern: brickPattern, description: 'The new brick, an empty directory.', examples: ['node4:/bricks/1/images'] }),
  force: Force
}, {
  $id: 'ReplaceBrick',
  description: 'Puts another brick in the place of one, in a replicated or dispersed volume. Refused while files of its set wait to be healed. It runs from when Gluster has done it, and succeeds when the new brick is healed: nothing waits to be healed, and it holds as many files and directories as the others of its set. A cancel only stops the waiting.',
  examples: [{ kind: 'gluster.replaceBrick', volume: 'images', brick: 'node3:/bricks/1/images', by: 'node4:/bricks/1/images' }]
})
export type ReplaceBrick = Static<typeof ReplaceBrick>

export const ResetBrick = Strict({
  kind: Type.Literal('gluster.resetBrick'),
  ...Brick,
  step: Words(['start', 'commit'], { description: '`start` takes the brick out of service; then its disk can be exchanged. `commit` takes it back in, at the same place.' }),
  force: Force
}, {
  $id: 'ResetBrick',
  description: 'Exchanges the disk of a brick, in a replicated or dispersed volume. `start` is refused while files of its set wait to be healed. `commit` runs from when Gluster has taken the brick back, and succeeds when it is healed, as `gluster.replaceBrick` does.',
  examples: [{ kind: 'gluster.resetBrick', volume: 'images', brick: 'node3:/bricks/1/images', step: 'start' }]
})
export type ResetBrick = Static<typeof ResetBrick>

export const glusterKinds = [
  'gluster.startVolumeRebalance', 'gluster.stopVolumeRebalance', 'gluster.startRemoveBrick', 'gluster.stopRemoveBrick', 'gluster.commitRemoveBrick',
  'gluster.replaceBrick', 'gluster.resetBrick'
] as const
export type GlusterKind = (typeof glusterKinds)[number]

const warnings = Type.Optional(Type.Array(Type.String(), { description: 'What whoever looks after the volume should know.' }))

export const StartOperationResult = Strict({
  operationId: OperationId,
  alreadyStarted: Type.Optional(Type.Boolean({ description: 'It was there before: this task started nothing.' })),
  marked: Type.Optional(Type.Boolean({
    description: '`false` when the volume could not be marked with the task id, because a host is down, for example: ' +
      'the operation does not tell which task it belongs to, and an agent that is restarted does not know it as this task\'s.'
  })),
  warnings
}, { $id: 'StartOperationResult', description: 'The operation that Gluster has registered.' })
export type StartOperationResult = Static<typeof StartOperationResult>

export const FinalNumbers = Strict({
  state: OperationState,
  nodes: Type.Array(Ref(OperationNode)),
  totals: Ref(OperationTotals),
  complete: Type.Boolean({ description: 'Every host that takes part has told its numbers.' }),
  missing: Type.Array(Type.String(), { description: 'The hosts that did not tell, by name.' }),
  problem: Type.Optional(Strict({ code: Type.String(), detail: Type.String() }, { description: 'What could not be read of the answer, with an excerpt; that value is then 0 or `unknown`, and all others hold.' }))
}, { $id: 'FinalNumbers', description: 'The last that Gluster told of the operation.' })
export type FinalNumbers = Static<typeof FinalNumbers>

export const StopOperationResult = Strict({ operationId: OperationId, final: Ref(FinalNumbers), warnings }, { $id: 'StopOperationResult', description: 'The operation that was stopped, with its last numbers.' })
export type StopOperationResult = Static<typeof StopOperationResult>

export const CommitRemoveBrickResult = Strict({
  operationId: Type.Optional(OperationId),
  final: Type.Optional(Ref(FinalNumbers)),
  alreadyDone: Type.Optional(Type.Boolean({ description: 'The bricks had been removed before.' })),
  warnings
}, { $id: 'CommitRemoveBrickResult', description: 'The removal that was committed, with its last numbers.' })
export type CommitRemoveBrickResult = Static<typeof CommitRemoveBrickResult>

export const ReplaceBrickResult = Strict({
  volume: VolumeName,
  brick: BrickName,
  healed: Type.Boolean({ description: 'Nothing waits to be healed, and the brick holds what the others of its set hold. `false` after the `start` of a reset: the brick is out of service.' }),
  files: Type.Optional(Type.Integer({ minimum: 0, description: 'How many files the brick holds.' })),
  alreadyDone: Type.Optional(Type.Boolean({ description: 'The brick had been replaced before.' }))
}, { $id: 'ReplaceBrickResult', description: 'A brick that was replaced or reset.' })
export type ReplaceBrickResult = Static<typeof ReplaceBrickResult>

export type GlusterResult = StartOperationResult | StopOperationResult | CommitRemoveBrickResult | ReplaceBrickResult
