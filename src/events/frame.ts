/**
 * Encodes one frame of text/event-stream. The id comes first, so that the frame without it is a tail of the same bytes.
 *
 * JSON has no raw line breaks, so one `data:` line always holds it all.
 */
export function encode (event: string, data: object, id?: string): Buffer {
  const text = `${idLine(id)}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
  // not from the shared pool: a frame lives long, and would keep the whole 8 KiB slab that it shares alive
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text))
  bytes.write(text)
  return bytes
}

/** How many bytes the id takes up at the beginning of a frame. */
export function idBytes (id: string): number {
  return Buffer.byteLength(idLine(id))
}

/** The `retry:` line: how long a client waits before it connects again. */
export function encodeRetry (retryMs: number): Buffer {
  return Buffer.from(`retry: ${Math.round(retryMs)}\n\n`)
}

/**
 * A comment, which keeps proxies from closing an idle connection, and a frame with nothing but an id: it moves the
 * cursor of a client whose filter lets little through, so that it is still remembered when the client comes back.
 */
export function encodeHeartbeat (id: string | undefined): Buffer {
  return Buffer.from(`:\n${idLine(id)}\n`)
}

function idLine (id: string | undefined): string {
  return id === undefined ? '' : `id: ${id}\n`
}
