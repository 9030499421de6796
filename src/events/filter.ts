import type { EventType } from '../api/event.ts'
import type { Subject } from './ring.ts'

/** What a subscriber wants to see. Absent members let everything through. */
export interface Wanted {
  types?: readonly EventType[]
  /** Of frames about tasks. */
  kinds?: readonly string[]
  /** Of frames about tasks. */
  idPrefix?: string
  /** One task: its events up to `until` whichever run they are of, so that a missed end is not lost, then those of `runId` alone. */
  only?: { id: string, runId: string, until: number }
}

/** A compiled filter. Equal wishes have equal keys. */
export interface Filter {
  readonly key: string
  readonly passes: (subject: Subject & { seq?: number }) => boolean
}

/** Compiles what a subscriber wants into one test that is made for every event. */
export function compile ({ types, kinds, idPrefix, only }: Wanted): Filter {
  const wantedTypes = types === undefined ? undefined : new Set<EventType>(types)
  const wantedKinds = kinds === undefined ? undefined : new Set(kinds)
  const key = JSON.stringify([types && [...new Set(types)].sort(), kinds && [...new Set(kinds)].sort(), idPrefix, only])
  if (only !== undefined) {
    return {
      key,
      passes: ({ task, seq }) => task !== undefined && task.id === only.id && (task.runId === only.runId || (seq !== undefined && seq <= only.until))
    }
  }
  return {
    key,
    passes: ({ type, task }) => {
      if (wantedTypes !== undefined && !wantedTypes.has(type)) return false
      if (task === undefined) return true
      if (wantedKinds !== undefined && !wantedKinds.has(task.kind)) return false
      return idPrefix === undefined || task.id.startsWith(idPrefix)
    }
  }
}
