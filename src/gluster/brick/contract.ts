/** What a process that looks into a brick is sent, once. */
export interface BrickRequest {
  /** A client volfile that holds the client of this brick and nothing else. It contains a password. */
  volfile: string
}

/** What is on a brick. */
export interface BrickContent {
  /** Everything but directories and DHT link files. */
  files: number
  directories: number
  /** Link files of DHT: they point to where a file is, and hold nothing. */
  links: number
  /** Of the files, those that were on their way to another brick when a host went down (mode S and T). */
  halfMoved: number
  /** Paths of a few of the files, from the root of the volume. */
  examples: string[]
}

/** What such a process sends. It is silent while the brick does not answer. */
export type BrickMessage =
  | { type: 'ready' }
  | { type: 'progress' }
  | { type: 'done', content: BrickContent }
  | { type: 'failed', detail: string }
