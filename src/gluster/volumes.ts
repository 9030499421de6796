import type { GlusterBrick, GlusterVolume, Operation } from '../api/operation.ts'
import type { VolumeInfo } from './answers.ts'
import type { BrickDetail } from './brick-answers.ts'
import { capacityOf } from './estimate.ts'

/** A volume with what its hosts say of the bricks. `details` is undefined when they could not be asked. */
export function describeVolume (volume: VolumeInfo, details: readonly BrickDetail[] | undefined, operations: readonly Operation[]): GlusterVolume {
  return {
    volume: volume.volume,
    id: volume.id,
    type: volume.type,
    state: volume.state,
    bricks: volume.bricks.map(({ brick, host, hostUuid, path, arbiter }) => {
      const detail = details?.find(candidate => candidate.hostUuid === hostUuid && candidate.path === path)
      return { brick, host, ...(arbiter && { arbiter }), ...describeBrick(detail) }
    }),
    ...(details !== undefined && capacityOf(volume, details)),
    operations: operations.filter(operation => operation.volume === volume.volume)
      .map(({ operationId, kind, state }) => ({ operationId, kind, state })),
    ...problemOf(volume, details ?? [])
  }
}

function problemOf ({ problem }: VolumeInfo, details: readonly BrickDetail[]): Pick<GlusterVolume, 'problem'> {
  const odd = problem ?? details.find(detail => detail.problem !== undefined)?.problem
  return odd === undefined ? {} : { problem: { code: 'gluster-unexpected', detail: `Something that Gluster told cannot be understood: ${odd}` } }
}

// A host that does not answer has its bricks left out: they may well be online, which is not for us to guess.
function describeBrick (detail: BrickDetail | undefined): Partial<GlusterBrick> {
  if (detail === undefined) return {}
  const { online, space } = detail
  return { online, ...(space !== undefined && { bytesTotal: space.bytesTotal, bytesFree: space.bytesFree }) }
}
