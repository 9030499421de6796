/** One frame of a `text/event-stream`. */
export interface Frame {
  id?: string
  event?: string
  data?: string
  /** From a `retry:` line: how long to wait before connecting again. */
  retryMs?: number
}

/**
 * Parses a `text/event-stream` as the HTML standard says, but hands out frames without data, too. EventSource keeps
 * them to itself and takes their id for its cursor; parsers that only hand out events (eventsource-parser 3.1) lose it,
 * and with it the cursor that heartbeats move on behind a filter that lets little through.
 */
export async function * parseFrames (text: AsyncIterable<string>): AsyncGenerator<Frame> {
  let rest = ''
  let frame: Frame = {}
  for await (const chunk of text) {
    // a CR at the very end may be half of a CRLF
    const lines = (rest + chunk).split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line !== '') read(line, frame)
      else {
        yield frame
        frame = {}
      }
    }
  }
}

function read (line: string, frame: Frame): void {
  // "s": for "." alone, U+2028 and U+2029 end lines, too; for the standard they do not, and JSON has them as they are
  const [, field = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? []
  if (field === 'data') frame.data = frame.data === undefined ? value : `${frame.data}\n${value}`
  else if (field === 'event') frame.event = value
  else if (field === 'id' && !value.includes('\0')) frame.id = value
  else if (field === 'retry' && /^\d+$/.test(value)) frame.retryMs = Number(value)
}
