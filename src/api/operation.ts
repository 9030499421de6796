import { Type, type Static } from '@sinclair/typebox'
import { Bytes, Ref, Strict, Time, Words } from './schema.ts'
import { TaskId } from './names.ts'

/** Gluster's own rule, without the leading dash that its command line would take for an option. */
export const volumeNamePattern = '^[A-Za-z0-9_][A-Za-z0-9_-]{0,254}$'

/** `host:/path`, without white space and control characters. */
export const brickPattern = '^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}:/[^\\s\\x00-\\x1f\\x7f]{0,4000}$'

export const operationIdPattern = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'

export const VolumeName = Type.String({ pattern: volumeNamePattern, maxLength: 255, description: 'The name of a Gluster volume.', examples: ['images'] })
export const BrickName = Type.String({ pattern: brickPattern, description: 'A brick, as `gluster volume info` shows it.', examples: ['node3:/bricks/1/images'] })
export const OperationId = Type.String({ pattern: operationIdPattern, description: 'The id that Gluster gave the operation, the same on every host.', examples: ['a25688b9-2795-412f-b56b-667b23486dc8'] })

export const operationKinds = ['rebalance', 'fix-layout', 'remove-brick'] as const
export const OperationKind = Words(operationKinds, {
  description: '`rebalance` moves files to where they belong; `fix-layout` only lets new files go to new bricks; `remove-brick` empties bricks that are to be removed.'
})
export type OperationKind = Static<typeof OperationKind>

export const throttles = ['lazy', 'normal', 'aggressive'] as const
export const Throttle = Words(throttles, {
  description: 'How much of the hosts the moving of files takes: `lazy` moves one file at a time. It is an option of the ' +
    'volume (`cluster.rebal-throttle`): it holds for what runs and for what comes.'
})
export type Throttle = Static<typeof Throttle>

export const nodeStates = ['running', 'completed', 'stopped', 'failed', 'not-started', 'unknown'] as const
export const NodeState = Words(nodeStates)
export type NodeState = Static<typeof NodeState>

export const operationStates = [...nodeStates, 'gone'] as const
export const OperationState = Words(operationStates, {
  description: 'Computed from the hosts: `running` while any of them is at it; `completed` only when every host that takes part has said so; `unknown` when all that answered are done but some did not answer. `gone` is told in events only: Gluster has forgotten the operation, because it was stopped, committed or replaced by a newer one.'
})
export type OperationState = Static<typeof OperationState>

const numbers = {
  files: Type.Integer({ minimum: 0, description: 'Files moved.' }),
  bytes: Bytes('Bytes of the files moved.'),
  scanned: Type.Integer({ minimum: 0, description: 'Files looked at.' }),
  failures: Type.Integer({ minimum: 0, description: 'Files that could not be moved, or other failures.' }),
  skipped: Type.Integer({ minimum: 0, description: 'Files that were left where they are, for example because the other brick is fuller.' }),
  runtimeSeconds: Type.Number({ minimum: 0, description: 'For how long; in the totals that of the host that took longest.' })
}

export const OperationNode = Strict({
  host: Type.String({ description: 'The host, by the name its bricks have.' }),
  hostUuid: Type.String({ description: 'The id of the host in the Gluster cluster.' }),
  state: NodeState,
  restarted: Type.Optional(Type.Boolean({
    description: 'Its part has begun again: its numbers went back, or its run time is far below that of the others. What ' +
      'it had still to do may not be done, whatever it says.'
  })),
  stalledSince: Type.Optional(Time('Since when it is said to be running and nothing has changed, not even its run time, ' +
    'for a minute or longer: its rebalance process is dead. Start the operation again with `restart`.')),
  ...numbers
}, { $id: 'OperationNode', description: 'How far one host is.' })
export type OperationNode = Static<typeof OperationNode>

export const OperationTotals = Strict(numbers, { $id: 'OperationTotals', description: 'The sums over all hosts that answered.' })
export type OperationTotals = Static<typeof OperationTotals>

export const OperationRate = Strict({
  bytesPerSecond: Bytes('Bytes moved per second.'),
  filesPerSecond: Type.Number({ minimum: 0, description: 'Files moved per second.' }),
  basis: Words(['recent', 'whole-run'], { description: '`recent`: measured over the last `seconds`; `whole-run`: all that was moved, divided by the run time.' }),
  seconds: Type.Number({ minimum: 0, description: 'The time that the rate was measured over.' })
}, { $id: 'OperationRate' })
export type OperationRate = Static<typeof OperationRate>

export const OperationEstimate = Strict({
  bytesLeft: Bytes('Bytes that are still to be moved, estimated.'),
  secondsLeft: Type.Optional(Type.Number({ minimum: 0, description: '`bytesLeft` at the present rate. Absent while nothing moves.' })),
  basis: Words(['bytes-on-removed-bricks', 'even-fill-of-bricks'], {
    description: '`bytes-on-removed-bricks`: what the file systems of the removed bricks still hold; `even-fill-of-bricks`: what has to leave the fuller bricks until all are equally full. Gluster places files by their names, so the second is rough.'
  }),
  usageAt: Time('When the space in use was asked for; what was moved since then is subtracted.')
}, { $id: 'OperationEstimate', description: 'The agent\'s own estimate: Gluster\'s XML has none. Only for bricks that have a file system each.' })
export type OperationEstimate = Static<typeof OperationEstimate>

export const Operation = Strict({
  operationId: OperationId,
  kind: OperationKind,
  volume: VolumeName,
  bricks: Type.Optional(Type.Array(Type.String(), { description: 'The bricks that are being emptied.' })),
  task: Type.Optional(Strict({
    taskId: TaskId,
    hostId: Type.String({ description: 'The host whose agent it was sent to.' })
  }, { description: 'The task that started it, from any host. Absent when it was started by other means.' })),
  claimedBy: Type.Optional(Strict({
    taskId: TaskId,
    hostId: Type.String({ description: 'The host whose agent it was sent to.' }),
    claimedAt: Time('When it was answered with this operation.')
  }, { description: 'The last task that was answered with this operation, or has committed it, without having started it.' })),
  startedAt: Type.Optional(Time('When it was started, by the clock of the host that started it; for an operation started by other means, from its run time.')),
  state: OperationState,
  nodes: Type.Array(Ref(OperationNode)),
  totals: Ref(OperationTotals),
  rate: Type.Optional(Ref(OperationRate)),
  estimate: Type.Optional(Ref(OperationEstimate)),
  throttle: Type.Optional(Throttle),
  ended: Type.Optional(Strict({
    how: Words(['stopped', 'committed']),
    at: Time('When that was done.')
  }, { description: 'It was stopped or committed by an agent, and Gluster has forgotten it: these are its last numbers, from a note on the volume.' })),
  complete: Type.Boolean({
    description: 'Every host has told its numbers, and none of them is `restarted`, `stalledSince`, `missing`, ' +
      '`rejected` or `joinedLater`. Gluster leaves out hosts without a word.'
  }),
  missing: Type.Array(Type.String(), { description: 'The hosts that did not tell, by name.' }),
  joinedLater: Type.Optional(Type.Array(Type.String(), {
    description: 'Hosts that take no part, because their first brick was added after the start. What the agent has noted ' +
      'on the volume at the start proves that; without proof, a host that does not tell is `missing`.'
  })),
  rejected: Type.Optional(Type.Array(Type.String(), {
    description: 'Hosts that are connected but that the cluster has rejected (`gluster peer status`): they do nothing.'
  })),
  disagreement: Type.Optional(Type.Array(Strict({
    host: Type.String(),
    operationId: Type.Optional(Type.String({ description: 'The operation that this host takes for the current one; absent when it knows of none.' }))
  }), { description: 'Hosts that tell of another operation on this volume. Happens when a host was down while the operation was started, and lasts until the next one.' })),
  problem: Type.Optional(Strict({
    code: Type.String(),
    detail: Type.String()
  }, { description: 'Why nothing is known of its state at the moment; or, with `nodes`, which value could not be read, with an excerpt: that value is then 0 or `unknown`, and all others hold.' })),
  observedAt: Time('When Gluster was asked.')
}, { $id: 'Operation', description: 'A rebalance or brick removal on a Gluster volume, as the hosts of the cluster tell it.' })
export type Operation = Static<typeof Operation>

export const OperationList = Strict({
  items: Type.Array(Ref(Operation)),
  unknown: Type.Optional(Type.Array(Strict({ volume: VolumeName, code: Type.String(), detail: Type.String() }), {
    description: 'Volumes of which it could not be found out what runs on them, and why: another command has locked them, for example.'
  })),
  ended: Type.Optional(Type.Array(Ref(Operation), {
    description: 'The last operations that agents have stopped or committed, of each volume and type one, with their last numbers.'
  })),
  problem: Type.Optional(Strict({ code: Type.String(), detail: Type.String() }, {
    description: 'Gluster has not answered within two seconds: the list is the one that was seen last. Or a volume could not be read.'
  })),
  observedAt: Time('When Gluster was asked.')
}, { $id: 'OperationList' })
export type OperationList = Static<typeof OperationList>

export const GlusterBrick = Strict({
  brick: Type.String({ description: '`host:/path`, as commands take it.' }),
  host: Type.String(),
  online: Type.Optional(Type.Boolean({ description: 'Whether its process runs. Absent when its host does not answer, or the volume is not started.' })),
  arbiter: Type.Optional(Type.Boolean({ description: 'It holds names but no data.' })),
  bytesTotal: Type.Optional(Bytes('The size of its file system.')),
  bytesFree: Type.Optional(Bytes('What is free there.'))
}, { $id: 'GlusterBrick' })
export type GlusterBrick = Static<typeof GlusterBrick>

export const GlusterVolume = Strict({
  volume: Type.String(),
  id: Type.String({ description: 'The id that Gluster gave the volume.' }),
  type: Type.String({ description: 'In Gluster\'s words.', examples: ['Distributed-Replicate'] }),
  state: Words(['created', 'started', 'stopped', 'unknown']),
  bricks: Type.Array(Ref(GlusterBrick)),
  bytesTotal: Type.Optional(Bytes('What the volume can hold. Absent unless a brick of every set is online.')),
  bytesFree: Type.Optional(Bytes('What is free. Absent unless a brick of every set is online.')),
  operations: Type.Array(Strict({ operationId: OperationId, kind: OperationKind, state: OperationState }), {
    description: 'What runs on it, has run last, or waits to be committed: see `/gluster/operations/{operationId}`.'
  }),
  problem: Type.Optional(Strict({ code: Type.String(), detail: Type.String() }, { description: 'What could not be read of it, with an excerpt; the rest holds.' }))
}, { $id: 'GlusterVolume' })
export type GlusterVolume = Static<typeof GlusterVolume>

export const GlusterVolumeList = Strict({
  items: Type.Array(Ref(GlusterVolume)),
  problem: Type.Optional(Strict({ code: Type.String(), detail: Type.String() }, { description: 'Why the bricks\' state and space are not there: Gluster was busy, or did not answer in time.' })),
  observedAt: Time('When Gluster was asked.')
}, { $id: 'GlusterVolumeList' })
export type GlusterVolumeList = Static<typeof GlusterVolumeList>
