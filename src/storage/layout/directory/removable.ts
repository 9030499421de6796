import type { Area } from '../../area.ts'
import { hasChildren } from '../../has-children.ts'
import { assertUnused } from '../../in-use.ts'
import { childrenOf } from './children.ts'

/**
 * Refuses to let an image go that others need: those that are based on it, and programs that have it open. To be asked under
 * the image's lease, right before it goes.
 *
 * @param consequence what did not happen, and what to do instead.
 */
export async function assertRemovable (area: Area, image: string, consequence: string): Promise<void> {
  await assertUnused(area.root, image, image, consequence)
  // last: an overlay may have been made a moment ago, and what comes after this is that the image goes
  const children = await childrenOf(area, image)
  if (children.length > 0) throw hasChildren(`Image ${image} in domain ${area.id}`, children, consequence)
}
