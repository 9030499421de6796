/** What callers are promised: claims, preconditions, events, the client, what Gluster says, and who may do what. */
export const elsewhere = [
  {
    file: 'src/tasks/registry.ts',
    tests: ['test/tasks/registry.test.ts', 'test/http/claims.test.ts'],
    mutants: [
      ['another command joins', '      if (existing.specDigest !== specDigest) {', '      if (existing.specDigest === "") {'],
      ['a rejected task keeps its id', "existing.state !== 'rejected' && reused === undefined) {\n      if", 'reused === undefined) {\n      if'],
      ['what is in use is used', '    if (busy !== undefined) {', '    if (busy === null) {'],
      ['a stopping agent begins tasks', '    if (this.stopping.aborted) throw', '    if (this.active < 0) throw'],
      ['there is no limit of active tasks', 'if (this.#active >= this.#options.maxActive) throw', 'if (this.#active < 0) throw'],
      ['an id is used again while its task runs', '    if (!existing.finished) throw conflict', '    if (existing.id === "") throw conflict'],
      ['If-Match with an older revision reuses an id', '    if (!namesRevision(ifMatch, existing)) throw', '    if (!namesRun(ifMatch, existing)) throw'],
      ['another instance takes a claim', 'if (instance !== undefined && instance !== this.instance) {', 'if (instance === "") {'],
      ['If-None-Match says nothing', "(ifNoneMatch === '*' || ifNoneMatch.includes(existing.etag))", "ifNoneMatch === '*'"],
      ['a task that cannot be canceled is', '    if (!run.cancelable) throw conflict', '    if (run.id === "") throw conflict'],
      ['a late cancel stops the next run', '(runId !== undefined && runId !== run.runId) || ', ''],
      ['a cancel with the tag of another run stops this one', ' || (ifMatch !== undefined && !namesRun(ifMatch, run))', ''],
      ['a finished task stays active', '      this.#active--\n', '']
    ]
  },
  {
    file: 'src/tasks/etag.ts',
    tests: ['test/tasks/etag.test.ts'],
    mutants: [
      ['a weak tag matches strongly', "tags.filter(member => !member.startsWith('W/'))", "tags.map(member => member.replace(/^W\\//, ''))"],
      ['a weak tag never matches weakly', "tags.map(member => member.replace(/^W\\//, ''))", 'tags'],
      ['another revision is this one', ' && parts.runId === of.runId && parts.revision === of.revision', ' && parts.runId === of.runId'],
      ['a run of another instance is this one', 'parts !== undefined && parts.instance === of.instance && parts.runId === of.runId\n', 'parts !== undefined && parts.runId === of.runId\n']
    ]
  },
  {
    file: 'src/tasks/run.ts',
    tests: ['test/tasks/run.test.ts', 'test/tasks/registry.test.ts'],
    mutants: [
      ['every move is legal', '    if (!canMove(this.#state, to)) return false\n', ''],
      ['a move has no revision', '    this.#revision++\n', ''],
      ['what is shown changes under one tag', '    this.#tick++\n', ''],
      ['who waits is not woken', '    this.#changed()\n    this.#wake()', '    this.#changed()'],
      ['who waits for an id that was used again waits on', '    this.#retired = true\n    this.#wake()', '    this.#retired = true'],
      ['a wait leaves its timer', '        clearTimeout(timer)\n', '', { why: 'The process ends all the same, and a timer that is left does nothing but hold memory until it is over.' }]
    ]
  },
  {
    file: 'src/tasks/state.ts',
    tests: ['test/tasks/state.test.ts'],
    mutants: [
      ['a canceling task cannot succeed', "canceling: ['canceled', 'succeeded', 'failed', 'rejected']", "canceling: ['canceled', 'failed', 'rejected']"],
      ['a running task is rejected', "running: ['canceling', 'succeeded', 'failed']", "running: ['canceling', 'succeeded', 'failed', 'rejected']"]
    ]
  },
  {
    file: 'src/tasks/list.ts',
    tests: ['test/tasks/list.test.ts'],
    mutants: [
      ['tasks of one instant are left out', 'createdAt === after.createdAt ? runId > after.runId : createdAt > after.createdAt', 'createdAt > after.createdAt'],
      ['each page has its own event id', 'const firstEventId = after?.lastEventId ?? lastEventId', 'const firstEventId = lastEventId'],
      ['a cursor of another instance goes on', 'if (of !== instance) throw', 'if (of === "") throw'],
      ['a page has one more', 'if (items.length === query.limit &&', 'if (items.length > query.limit &&']
    ]
  },
  {
    file: 'src/events/ring.ts',
    tests: ['test/events/ring.test.ts'],
    mutants: [
      ['one event too few is remembered', 'return seq >= this.oldest - 1', 'return seq >= this.oldest'],
      ['one event that is gone is remembered', 'return seq >= this.oldest - 1', 'return seq >= this.oldest - 2'],
      ['an evicted transition stays', 'this.#transitions.get(evicted.task.runId) === evicted) this.#transitions.delete', 'this.#transitions.get(evicted.task.runId) === undefined) this.#transitions.delete'],
      ['a newer transition goes with an evicted one', ' && this.#transitions.get(evicted.task.runId) === evicted)', ')'],
      ['a read has no bound', 'if (reading.bytes > 0 && reading.bytes + frame.length > maxBytes) break\n', ''],
      ['the end of an id is the first one', 'entry.seq > (end?.seq ?? 0)', 'end === undefined']
    ]
  },
  {
    file: 'src/events/cursor.ts',
    tests: ['test/events/cursor.test.ts'],
    mutants: [
      ['a cursor of another instance goes on', "  if (of !== instance) return { at: 'reset', reason: 'instance-changed' }\n", ''],
      ['a cursor of the future goes on', "  if (seq > newest) return { at: 'reset', reason: 'future' }\n", ''],
      ['the oldest event that can follow is a reset', 'if (seq < oldest - 1)', 'if (seq < oldest)'],
      ['an evicted cursor goes on', "  if (seq < oldest - 1) return { at: 'reset', reason: 'evicted' }\n", '']
    ]
  },
  {
    file: 'src/events/filter.ts',
    tests: ['test/events/filter.test.ts'],
    mutants: [
      ['kinds are no filter', 'if (wantedKinds !== undefined && !wantedKinds.has(task.kind)) return false', ''],
      ['types are no filter', 'if (wantedTypes !== undefined && !wantedTypes.has(type)) return false', ''],
      ['another run of the id is seen', '(seq !== undefined && seq <= only.until)', 'seq !== undefined'],
      ['a missed end of another run is not seen', ' || (seq !== undefined && seq <= only.until)', '']
    ]
  },
  {
    file: 'src/events/latest.ts',
    tests: ['test/events/latest.test.ts', 'test/events/feed.test.ts'],
    mutants: [
      ['progress goes to everybody', '      if (passes(at)) frames.push(at.frame)', '      frames.push(at.frame)'],
      ['progress is seen twice', 'at.tick > tick', 'at.tick >= tick'],
      ['old numbers stay beside the new', '    this.delete(key)\n    const numbers', '    const numbers'],
      ['the newest first', 'return frames.reverse()', 'return frames']
    ]
  },
  {
    file: 'src/events/stream.ts',
    tests: ['test/events/stream.test.ts', 'test/events/feed.test.ts'],
    mutants: [
      ['a snapshot carries ids', 'return snapshot.shows(entry) ? undefined : entry.bare', 'return snapshot.shows(entry) ? undefined : entry.frame'],
      ['a transition of the snapshot comes again', 'return snapshot.shows(entry) ? undefined : entry.bare', 'return entry.bare'],
      ['a stalled peer is kept', "      this.#host.drop(this, 'stalled')\n    } else", '    } else'],
      ['who is overtaken goes on with a gap', "if (this.#state === 'live' && !this.#host.ring.reaches(this.#position.seq)) this.#state = 'opening'", '']
    ]
  },
  {
    file: 'src/client/transport.ts',
    tests: ['test/client/client.test.ts'],
    mutants: [
      ['429 is not tried again', 'response.statusCode === 503 || response.statusCode === 429', 'response.statusCode === 503'],
      ['503 is not tried again', 'response.statusCode === 503 || response.statusCode === 429', 'response.statusCode === 429'],
      ['a lost connection is the end', 'if (this.closed || performance.now() >= giveUpAt) throw', 'if (this.url !== "") throw'],
      ['the path of a proxy is lost', "this.#base.pathname.replace(/\\/$/, '') + path", 'path']
    ]
  },
  {
    file: 'src/client/client.ts',
    tests: ['test/client/client.test.ts'],
    mutants: [
      ['a 412 of another run is this one', 'return task?.replaces === ifMatch ? task : undefined', 'return task'],
      ['a PUT sent again takes over its own run', "const tag = ifMatch === '*' ? await this.#latestTag(id, signal) : ifMatch", 'const tag = ifMatch'],
      ['a wait ends before the task does', 'if (body.endedAt !== undefined) return body', 'return body'],
      ['a list of images ends with its first page', 'while (cursor !== undefined)', 'while (cursor === null)']
    ]
  },
  {
    file: 'src/gluster/xml.ts',
    tests: ['test/gluster/xml.test.ts'],
    mutants: [
      ['half a document is one', " || !/<\\/cliOutput\\s*>$/.test(text)", ''],
      ['of several elements the first is taken', "  if (first === undefined || found.length > 1) throw unexpected(parent, `${found.length} elements ${name} instead of one`)\n  return first\n}\n\n/** Whether", "  if (first === undefined) throw unexpected(parent, `${found.length} elements ${name} instead of one`)\n  return first\n}\n\n/** Whether"],
      ['a count is rounded', " || !Number.isSafeInteger(number)", ''],
      ['a count has a sign', "if (!/^\\d+$/.test(value) ||", 'if (value === "" ||']
    ]
  },
  {
    file: 'src/gluster/observe.ts',
    tests: ['test/gluster/observe.test.ts'],
    mutants: [
      ['numbers of another operation count', '.filter(node => !elsewhere.has(node.hostUuid))', ''],
      ['a host that was lost is not missing', ' || disconnected.has(host)', ''],
      ['a silent host has completed', "if (!complete || nodes.length === 0 || nodes.includes('unknown')) return 'unknown'", "if (nodes.length === 0 || nodes.includes('unknown')) return 'unknown'"],
      ['a failed host is outvoted', "['running', 'failed', 'stopped'] as const", "['running', 'stopped', 'failed'] as const"],
      ['every host of the volume removes a brick', "task.type === 'rebalance' ? bricks : bricks.filter", 'bricks.length > 0 ? bricks : bricks.filter'],
      ['the mark of another operation is this one\'s', 'mark?.operationId === task.operationId ? mark : undefined', 'mark'],
      ['run times are added', 'runtimeSeconds: Math.max(0, ...nodes.map(node => node.runtimeSeconds))', "runtimeSeconds: total('runtimeSeconds')"]
    ]
  },
  {
    file: 'src/gluster/operations.ts',
    tests: ['test/gluster/operations.test.ts'],
    mutants: [
      ['a report of another operation counts', 'return report.operationId === task.operationId ? { report } : undefined', 'return { report }'],
      ['hosts lost after their report are not missing', 'const after = someoneIsSilent ? await listHosts(this.#gluster) : []', 'const after: PoolHost[] = []'],
      ['one operation that cannot be told hides the others', 'return { problem: { code: error.code, detail: error.message } }\n    }\n  }\n\n  /** Hosts', 'throw error\n    }\n  }\n\n  /** Hosts']
    ]
  },
  {
    file: 'src/gluster/claim.ts',
    tests: ['test/gluster/claim.test.ts'],
    mutants: [
      ['an operation that ended before is claimed', "const isNew = firstMarks.started?.operationId !== operation", 'const isNew = true'],
      ['another kind of operation is claimed', "return isNew && started.what === request.what ? 'claim' : 'start'", "return isNew ? 'claim' : 'start'"],
      ['an old mark counts', '!isRecent(announced) || ', ''],
      ['the start of another task is claimed', "return announced.taskId === request.taskId ? 'claim' : 'wait'", "return 'claim'"]
    ]
  },
  {
    file: 'src/auth/token-file.ts',
    tests: ['test/auth/token-file.test.ts'],
    mutants: [
      ['an expired token is good', 'return expiresAt !== undefined && expiresAt <= Date.now()', 'return false'],
      ['two tokens have one name', 'if (names.has(name)) throw', 'if (names.has("")) throw'],
      ['a misspelled member is nothing', 'if (stranger !== undefined) throw', 'if (stranger === "") throw']
    ]
  },
  {
    file: 'src/auth/credentials.ts',
    tests: ['test/auth/credentials.test.ts', 'test/http/access.test.ts'],
    mutants: [
      ['over TCP nobody need say who he is', 'if (!this.required) return overLoopback', 'return overLoopback'],
      ['a wrong token is passed over for a session', 'if (authorization !== undefined && this.takesTokens) return this.#byToken(authorization)', 'if (authorization !== undefined && this.takesTokens && sessionKey === undefined) return this.#byToken(authorization)']
    ]
  },
  {
    file: 'src/http/guard.ts',
    tests: ['test/http/guard.test.ts'],
    mutants: [
      ['any Host will do', "if (!last.loopback && !cameOverUnixSocket", 'if (host === "x" && !cameOverUnixSocket'],
      ['a page of others may ask', 'if (!origins.has(origin.toLowerCase())) throw', 'if (origins.has("")) throw'],
      ['a page of others brings the cookie', 'if (headers.cookie !== undefined) throw', 'if (headers.cookie === "") throw'],
      ['two Host headers are one', "if (hosts > 1) throw", 'if (hosts > 9) throw']
    ]
  },
  {
    file: 'src/qemu/header.ts',
    tests: ['test/qemu/header.test.ts'],
    mutants: [
      ['a backing name has 1024 bytes', 'backingLength > 1023 ||', 'backingLength > 1024 ||'],
      ['a backing name of 1023 bytes is refused', 'backingLength > 1023 ||', 'backingLength > 1022 ||'],
      ['an external data file is opened', '(bytes.readBigUInt64BE(72) & externalDataFile) !== 0n', '(bytes.readBigUInt64BE(72) & externalDataFile) === 99n'],
      ['an image that is cut off is an empty disk', 'if (tableBytes > 0n && tableEnd > BigInt(fileBytes)) throw', 'if (tableEnd < 0n) throw'],
      ['an encrypted image is read', 'if (bytes.readUInt32BE(32) !== 0) throw', 'if (bytes.readUInt32BE(32) === 99) throw']
    ]
  }
]
