import type { Copy, Fix } from '../../api/image.ts'
import type { CopyRecord } from '../record.ts'

/** The state of a copy record, in the words of the list of copies. */
export function copyState (record: CopyRecord, verdict: { fixes: readonly Fix[] } | undefined, leased: boolean): Copy['state'] {
  if (record.phase === 'done') return 'done'
  if (record.phase === 'deleting') return 'illegal'
  if (leased) return 'copying'
  return verdict?.fixes.some(({ action }) => action === 'mend') === true ? 'interrupted' : 'illegal'
}
