const order = 'test/integration/durable-order.test.ts'
const orderOvirt = 'test/integration/durable-order-ovirt.test.ts'
const flusher = 'test/storage/copy/flusher.test.ts'
const guards = 'test/storage/copy/guards.test.ts'

/** What keeps images whole: first of all, the order of durable steps. */
export const storage = [
  {
    file: 'src/system/durable.ts',
    tests: [order],
    mutants: [
      ['a file is renamed before its content is durable', '      await syncFile(fd)\n    } finally {', '    } finally {'],
      ['a replaced file is not durable', '    throw error\n  }\n  await syncDirectory(directory)\n}', '    throw error\n  }\n}'],
      ['a link is not durable', '  await syncDirectory(to)\n}\n\nasync function isSameFile', '}\n\nasync function isSameFile'],
      ['a link makes the wrong directory durable', '  await syncDirectory(to)\n}\n\nasync function isSameFile', '  await syncDirectory(from)\n}\n\nasync function isSameFile'],
      ['a move is not durable where it went', '  await syncDirectory(to)\n  await syncDirectory(from)', '  await syncDirectory(from)'],
      ['a move is not durable where it came from', '  await syncDirectory(to)\n  await syncDirectory(from)', '  await syncDirectory(to)'],
      ['a removal is not durable', "'ENOENT')) return false\n    throw error\n  }\n  await syncDirectory(directory)\n", "'ENOENT')) return false\n    throw error\n  }\n"],
      ['a directory that is made is not durable', "    if (!hasErrno(error, 'EEXIST')) throw error\n  }\n  await syncDirectory(parent)", "    if (!hasErrno(error, 'EEXIST')) throw error\n  }", { tests: [orderOvirt] }],
      ['a directory that is removed is not durable', "    if (!hasErrno(error, 'ENOENT')) throw error\n  }\n  await syncDirectory(parent)", "    if (!hasErrno(error, 'ENOENT')) throw error\n  }", { tests: [orderOvirt] }],
      ['data is never flushed', 'export const syncData = promisify(fdatasync)', 'export const syncData = async (_: number): Promise<void> => {}', { tests: [flusher] }],
      ['a link replaces what is there', "if (!hasErrno(error, 'EEXIST') || !await isSameFile(from, name, to, newName)) throw error", "if (!hasErrno(error, 'EEXIST')) throw error", { tests: ['test/system/durable.test.ts'] }],
      ['a link that is there already is an error', "if (!hasErrno(error, 'EEXIST') || !await isSameFile(from, name, to, newName)) throw error", 'throw error', { tests: ['test/system/durable.test.ts'] }],
      ['a failed replacement leaves its temporary file', '    await unlink(entry(directory, temporary)).catch(() => { /* the first error is the one to tell */ })\n', '', { tests: ['test/system/durable.test.ts'] }],
      ['a removal of nothing is an error', "if (hasErrno(error, 'ENOENT')) return false", "if (hasErrno(error, 'EISDIR')) return false", { tests: ['test/system/durable.test.ts'] }]
    ]
  },
  {
    file: 'src/storage/copy/flusher.ts',
    tests: [flusher],
    mutants: [
      ['a flush counts windows that came while it ran', '    this.#written = []\n    try {\n      await syncData(fd)', '    try {\n      await syncData(fd)\n      this.#written = []'],
      ['windows are counted before they are flushed', '      await syncData(fd)\n    } catch', '      this.#settleNext(windows)\n      await syncData(fd)\n    } catch'],
      ['nothing is flushed', '      await syncData(fd)\n', ''],
      ['a flush that failed is tried again', '      await syncData(fd)\n', '      await syncData(fd).catch(async () => { await syncData(fd) })\n'],
      ['an error of a flush is swallowed', '    this.#flushing = this.#flush().catch(this.#options.fail)', '    this.#flushing = this.#flush().catch(() => {})'],
      ['after an error the next flush begins', '      if (!this.#options.signal.aborted) this.#startFlush()', '      this.#startFlush()'],
      ['no space at a flush is a failed storage', 'new AppError(flushCode(error), `What', "new AppError('storage-failed', `What"],
      ['the end does not wait for the last flush', '    while (this.#flushing !== undefined) await this.#flushing\n', ''],
      ['the end does not wait for the last record', 'await Promise.all([this.#settling, this.#early])', 'await this.#early'],
      ['windows are counted after an error', '      if (signal.aborted) return\n', ''],
      ['records are written side by side', 'this.#settling = this.#settling.then(async () => {', 'this.#settling = Promise.resolve().then(async () => {'],
      ['an error of a record is swallowed', '    }).catch(fail)', '    }).catch(() => {})'],
      ['the page cache has no bound', 'this.#dirty + bytes > limit &&', 'this.#dirty < 0 &&'],
      ['a fast storage is held to the same bound', 'Math.max(dirtyBytes, bytesPerSecond * dirtySeconds)', 'dirtyBytes'],
      ['a large window waits for ever', 'while (this.#dirty > 0 && this.#dirty + bytes', 'while (this.#dirty + bytes'],
      ['who waits for room waits also after an error', "options.signal.addEventListener('abort', () => { this.#letGo() }, { once: true })", ''],
      ['what is counted stays dirty', '      this.#dirty -= windows.reduce((sum, { copyBytes }) => sum + copyBytes, 0)\n', ''],
      ['the cache is never written early', 'if (!this.#options.direct) this.#early', 'if (this.#options.direct) this.#early'],
      ['slow copies hurry, too', "if (isHurried()) this.#startFlush('early')", "this.#startFlush('early')"]
    ]
  },
  {
    file: 'src/storage/copy/copier.ts',
    tests: [order],
    mutants: [
      ['a window is not named before it begins', '    await this.#session.checkpoint(record => ({ begun: mutable(union(record.begun, windows.flatMap(({ writes }) => writes))) }))\n    this.#named', '    this.#named'],
      ['a window is named while it begins', '    await this.#session.checkpoint(record => ({ begun:', '    void this.#session.checkpoint(record => ({ begun:'],
      ['windows before are no longer named', 'begun: mutable(union(record.begun, windows.flatMap(({ writes }) => writes)))', 'begun: mutable(windows.flatMap(({ writes }) => writes))'],
      ['a window is flushed as if it were whole when it begins', '      await this.#copyWindow(window)\n', '      this.#flusher.add(window)\n      await this.#copyWindow(window)\n'],
      ['the end does not wait for flushes', '    await this.#flusher.end()\n', ''],
      ['an error of a lane is swallowed', 'await this.#lane().catch((error: unknown) => { this.#fail(error) })', 'await this.#lane().catch(() => {})', { tests: ['test/storage/copy/copier.test.ts', guards] }],
      ['a copy that failed goes to its end', '    this.#failed.signal.throwIfAborted()\n', '', { tests: [guards] }],
      ['what is left out is not noticed, and the last windows are forgotten', '      if (this.#exhausted && this.#naming === undefined) return undefined', '      if (this.#exhausted) return undefined', { tests: ['test/storage/copy/copier.test.ts'] }],
      ['nobody makes sure of the copy before a window', '      await this.#session.assertOwnership()\n      const startedAt', '      const startedAt', { tests: [guards] }],
      ['two lanes write a qcow2 target', "this.#lanes = record.format === 'raw' ? settings.parallelWindows : 1", 'this.#lanes = settings.parallelWindows', { tests: [order] }],
      ['windows are not whole clusters', 'this.#align = Math.max(clusterBytes, MiB)', 'this.#align = 512', { tests: ['test/storage/copy/copier.test.ts'] }],
      ['the limit is for each lane', 'Math.max(1, Math.floor(this.#bandwidth / this.#lanes))', 'this.#bandwidth', { tests: ['test/storage/copy/copier.test.ts'] }]
    ]
  },
  {
    file: 'src/storage/copy/finish.ts',
    tests: [order],
    mutants: [
      ['the end is not flushed', '  await syncData(part.fd)\n', ''],
      ['the end is flushed before the file has its size', "  if (format === 'raw') await truncateFd(part.fd, virtualSize)\n  await syncData(part.fd)", "  await syncData(part.fd)\n  if (format === 'raw') await truncateFd(part.fd, virtualSize)"],
      ['a raw copy keeps its whole sectors', "  if (format === 'raw') await truncateFd(part.fd, virtualSize)\n", '', { tests: ['test/integration/crash-steps.test.ts'] }],
      ['the name comes before the record says so', "  await session.checkpoint(() => ({ phase: 'finishing', ...(verified && { verified: true }) }))\n  const refusal = await target.giveName(session.record)", "  const refusal = await target.giveName(session.record)\n  await session.checkpoint(() => ({ phase: 'finishing', ...(verified && { verified: true }) }))"],
      ['done comes before the part is gone', '  const identity = await target.settle(record)\n', '  await writeRecord(area.copies, { ...record, phase: "done", done: [], begun: [] })\n  const identity = await target.settle(record)\n'],
      ['nobody makes sure of the copy before its end', '  await session.assertOwnership()\n', '', { tests: [guards] }],
      ['a source that changed is not noticed', '  if (changed.length > 0) {', '  if (changed.length > 99) {', { tests: [guards] }],
      ['a copy that was not compared says verified', '...(verified && { verified: true })', 'verified: true', { tests: [guards] }],
      ['a copy that was compared does not say so', "phase: 'finishing', ...(verified && { verified: true })", "phase: 'finishing'", { tests: [guards] }],
      ['a touched source is not compared', 'const verified = session.record.verify || touched.length > 0', 'const verified = session.record.verify', { tests: [guards] }],
      ['a copy that differs is done', '  if (identical) return\n', '  if (identical || !identical) return\n', { tests: [guards] }],
      ['what was compared and differs stays done', "await session.checkpoint(() => ({ done: [], begun: [[0, record.virtualSize]], bytesMoved: 0 }))\n", '', { tests: [guards] }],
      ['a refused name leaves the copy at its end', "    await session.checkpoint(() => ({ phase: 'copying' }))\n", '', { tests: [guards] }],
      ['a refused name is no refusal', '  if (refusal !== undefined) {', '  if (refusal === "") {', { tests: [guards] }],
      ['a vanished image is done', "  if (identity === undefined) throw new AppError('storage-failed', `The image", "  if (identity === null) throw new AppError('storage-failed', `The image", { tests: [guards] }]
    ]
  },
  {
    file: 'src/storage/copy/part.ts',
    tests: [order],
    mutants: [
      ['a part is not durable', '  await syncFile(fd)\n  await syncDirectory(area.parts)\n  return part', '  await syncDirectory(area.parts)\n  return part'],
      ['the name of a part is not durable', '  await syncFile(fd)\n  await syncDirectory(area.parts)\n  return part', '  await syncFile(fd)\n  return part'],
      ['a part replaces another', 'constants.O_RDWR | constants.O_CREAT | constants.O_EXCL', 'constants.O_RDWR | constants.O_CREAT', { tests: [guards] }],
      ['a part of another inode is written', '  const sound = inodeOf(stats) === inode && (', '  const sound = (', { tests: [guards] }],
      ['a part that is too short is taken', 'return size >= virtualSize && (', 'return (', { tests: [guards] }],
      ['a part that is too long is taken', 'size <= wholeSectors(virtualSize) ||', 'true ||', { tests: [guards] }],
      ['a damaged qcow2 part is taken', 'return exitCode === 0 || exitCode === 3', 'return true', { tests: [guards] }],
      ['a part with a backing file is taken', 'header.virtualSize !== virtualSize || header.backing !== undefined', 'header.virtualSize !== virtualSize', { tests: [guards] }],
      ['a part of another virtual size is taken', 'header.virtualSize !== virtualSize || header.backing !== undefined', 'header.backing !== undefined', { tests: [guards] }],
      ['the part is not locked', "  if (local && !await lockFile(fd)) throw", '  if (local && fd < 0) throw', { tests: [guards] }]
    ]
  },
  {
    file: 'src/storage/copy/resume.ts',
    tests: [guards],
    mutants: [
      ['the epoch stays when a host takes over', '    epoch: record.epoch + 1,', '    epoch: record.epoch,'],
      ['the host stays when another takes over', '    host: job.host,\n    taskId: job.taskId,', '    taskId: job.taskId,'],
      ['a source that changed goes on', '  if (changed.length > 0) {', '  if (changed.length > 99) {'],
      ['a stale "verified" stays', 'const { verified: _, ...unverified } = record', 'const unverified = record'],
      ['a copy without its part keeps what is done', "done: [], begun: [], bytesMoved: 0 })", 'bytesMoved: 0 })'],
      ['a new part has the old name', "copyId: randomUUID(), done: []", 'done: []'],
      ['a note of a cancel stays', 'const { bandwidth: _, canceledAt: __, ...rest } = record', 'const { bandwidth: _, ...rest } = record'],
      ['a copy that has its name is copied again', "if (await target.standing(record) === 'ended') {", "if (await target.standing(record) === null) {"],
      ['what is on the way is written before it is taken over', "record: await takeOver(job, area, taken, { phase: 'copying' }) } }", "record: { ...taken, phase: 'copying', epoch: taken.epoch + 1 } } }"]
    ]
  },
  {
    file: 'src/storage/copy/session.ts',
    tests: [guards],
    mutants: [
      ['a record is written that is no longer ours', '      await this.assertOwnership()\n      const next', '      const next'],
      ['another epoch is not noticed', 'if (found?.copyId !== copyId || found.epoch !== epoch) {', 'if (found?.copyId !== copyId) {'],
      ['another copy is not noticed', 'if (found?.copyId !== copyId || found.epoch !== epoch) {', 'if (found?.epoch !== epoch) {'],
      ['the lock is not asked', "await this.lease.holds().catch(() => false)", 'true', { tests: [guards] }],
      ['a lock that cannot be asked holds', '.catch(() => false)', '.catch(() => true)'],
      ['records are written side by side', 'const write = this.#writing.then(async () => {', 'const write = Promise.resolve().then(async () => {'],
      ['the record is taken for written before it is', '      await writeRecord(this.area.copies, next)\n      this.#record = next', '      this.#record = next\n      await writeRecord(this.area.copies, next)']
    ]
  },
  {
    file: 'src/storage/layout/directory/copy-target.ts',
    tests: [guards],
    mutants: [
      ['a foreign file at the end is taken for the copy', "if (record.phase === 'finishing' && inodeOf(final) === record.inode) return 'ended'", "if (record.phase === 'finishing') return 'ended'"],
      ['an inode alone proves the end', "record.phase === 'finishing' && inodeOf(final) === record.inode", 'inodeOf(final) === record.inode'],
      ['a file that is not the replaced one is replaced', "if (existing !== undefined && replaces !== undefined && isSameContent(replaces, identityOf(existing))) {", 'if (existing !== undefined && replaces !== undefined) {'],
      ['a file that is there is replaced', 'await linkFile(parts, copyId, root, this.#image)', 'await replaceByMove(parts, copyId, root, this.#image)'],
      ['the part stays', '    await this.discard(record)\n    const stats', '    const stats', { tests: [order] }]
    ]
  },
  {
    file: 'src/storage/patience.ts',
    tests: ['test/storage/patience.test.ts', guards],
    mutants: [
      ['a writer does not wait for the one before', 'if (existed && !local) await sleep(unsettledMs)', ''],
      ['a reader believes at once that nothing is there', 'const isLast = local || performance.now() >= end', 'const isLast = true']
    ]
  },
  {
    file: 'src/storage/copy/accept.ts',
    tests: [guards],
    mutants: [
      ['nobody waits after a lease that was held', '  await outlastOthers(area, lease)\n', ''],
      ['a finished copy that was written since is confirmed', 'if (record.target === undefined || !isSameContent(record.target, found)) differing.push', 'if (record.target === undefined) differing.push'],
      ['a finished copy of another state of its source is confirmed', 'return { differing: changed, ', 'return { differing: [], ']
    ]
  },
  {
    file: 'src/storage/identity.ts',
    tests: ['test/storage/identity.test.ts'],
    mutants: [
      ['an inode beyond 2^63 is negative', 'return String(BigInt.asUintN(64, ino))', 'return String(ino)'],
      ['a file with another time of birth is the same', "['inode', 'size', 'modified', 'changed', 'born'] as const", "['inode', 'size', 'modified', 'changed'] as const"],
      ['a birth that one client does not see is a change', " && !(key === 'born' && (a.born === undefined || b.born === undefined))", ''],
      ['a modified file has the same content', "every(what => what === 'changed')", "every(what => what === 'changed' || what === 'modified')"]
    ]
  },
  {
    file: 'src/storage/ranges.ts',
    tests: ['test/storage/ranges.test.ts'],
    mutants: [
      ['ranges that touch are not joined', 'if (last !== undefined && start <= last[1])', 'if (last !== undefined && start < last[1])'],
      ['a range inside another cuts that', 'last[1] = Math.max(last[1], end)', 'last[1] = end'],
      ['an empty range stays', '    if (start >= end) continue\n', ''],
      ['what is between two is lost', 'if (bStart > from) result.push([from, bStart])', 'if (bStart > from) result.push([from, bEnd])'],
      ['the rest is lost', '    if (from < end) result.push([from, end])\n', ''],
      ['ranges beyond the end are in order', 'start > last && start < end && end <= size', 'start > last && start < end'],
      ['ranges that touch are in order', 'start > last && start < end', 'start >= last && start < end']
    ]
  },
  {
    file: 'src/storage/copy/windows.ts',
    tests: ['test/storage/copy/windows.test.ts'],
    mutants: [
      ['a cluster that is written in part is not copied whole', 'Math.floor(start / align) * align, Math.ceil(end / align) * align]', 'start, end]'],
      ['what was begun and reads as zeros is not copied', 'const copy = intersect(todo, union(aligned, begun))', 'const copy = intersect(todo, aligned)'],
      ['a window reaches over what is done', 'if (total(intersect([[end, from]], done)) > 0) break\n', ''],
      ['a window that was begun is fresh', 'fresh: within(begun) === 0', 'fresh: true'],
      ['a long gap is skipped in what was begun', 'if ((isLong || writes.length > 0) && total(intersect([[start, to]], begun)) > 0) break\n', ''],
      ['windows are twice as large', 'if (copyBytes >= windowBytes || cut < to) break', 'if (copyBytes >= 2 * windowBytes || cut < to) break']
    ]
  },
  {
    file: 'src/storage/record.ts',
    tests: ['test/storage/record.test.ts'],
    mutants: [
      ['a record of another image is read', 'if (value.domain !== domain || keyOf(value) !== key)', 'if (value.domain !== domain)'],
      ['a record of another domain is read', 'if (value.domain !== domain || keyOf(value) !== key)', 'if (keyOf(value) !== key)'],
      ['ranges out of order are read', '!areRanges(value.done, value.virtualSize) || ', ''],
      ['what nobody can read is written', '  if (!validator.Check(record)) throw new Error', '  if (record.image === "") throw new Error'],
      ['a first write that was cut off stays', 'const temporary = await removeFile(copies, temporaryName(key))', 'const temporary = false', { tests: ['test/storage/record.test.ts', 'test/integration/crash-steps.test.ts'] }]
    ]
  },
  {
    file: 'src/storage/lease.ts',
    tests: ['test/storage/lease.test.ts'],
    mutants: [
      ['a look at a lease takes it from others', "return !await flock(fd, '--shared', '--nonblock')", "return !await flock(fd, '--exclusive', '--nonblock')"],
      ['a lease that is taken is free', "if (exitCode === 1 && stderr === '') return false", "if (exitCode === 1 && stderr === '') return true"],
      ['an error of a lock is a lock that is taken', "if (exitCode === 1 && stderr === '') return false", 'if (exitCode !== 0) return false'],
      ['a lease for readers keeps readers out', 'if (await flock(fd, `--${mode}`,', "if (await flock(fd, '--exclusive',"]
    ]
  },
  {
    file: 'src/storage/layout/ovirt/copy-target.ts',
    tests: [orderOvirt],
    mutants: [
      ['the inode of a volume is not recorded before its name', '    await writeRecord(this.#area.copies, named)\n', ''],
      ['a volume is LEGAL from the start', "      legality: 'ILLEGAL',\n      ...(layer?.parent", "      legality: 'LEGAL',\n      ...(layer?.parent"],
      ['a volume that is there stays LEGAL', "if (metadata.legality === 'LEGAL') await this.#write({ ...metadata, legality: 'ILLEGAL' })", ''],
      ['the generation stays', 'generation: nextGeneration(metadata.generation) })', 'generation: metadata.generation })', { tests: ['test/integration/ovirt-crash-steps.test.ts'] }]
    ]
  },
  {
    file: 'src/storage/layout/ovirt/publish.ts',
    tests: [orderOvirt],
    mutants: [
      ['the metadata comes before the data', "  if (data === undefined) await linkFile(area.parts, copyId, directory, volume)\n", "  await writeMetadata(area, directory, volume, metadata)\n  if (data === undefined) await linkFile(area.parts, copyId, directory, volume)\n"],
      ['the proof goes before the lease is there', '  await makeLease(area, directory, volume)\n', '  await removeFile(area.parts, copyId)\n  await makeLease(area, directory, volume)\n']
    ]
  },
  {
    file: 'src/storage/layout/ovirt/volumes.ts',
    tests: [orderOvirt],
    mutants: [
      ['a lease has its name before it is whole', '    await syncFile(fd)\n    await linkFile(area.parts, part, directory, name)', '    await linkFile(area.parts, part, directory, name)'],
      ['the metadata goes first', 'for (const name of [volume, `${volume}.lease`, `${volume}.meta.new`, `${volume}.meta`])', 'for (const name of [`${volume}.meta`, volume, `${volume}.lease`, `${volume}.meta.new`])']
    ]
  },
  {
    file: 'src/storage/layout/ovirt/kept-chain.ts',
    tests: [orderOvirt],
    mutants: [
      ['the data of a template is linked first', "for (const name of [`${volume}.meta`, `${volume}.lease`, volume])", "for (const name of [volume, `${volume}.meta`, `${volume}.lease`])"],
      ['a parent stays a leaf', "if (metadata.volumeType === 'LEAF') await writeMetadata", "if (metadata.volumeType === 'SHARED') await writeMetadata"]
    ]
  },
  {
    file: 'src/storage/copy/chain.ts',
    tests: [orderOvirt],
    mutants: [['the record of a chain is not the first', '    await head.announce?.()\n', '']]
  },
  {
    file: 'src/storage/layout/ovirt/volume-metadata.ts',
    tests: ['test/integration/ovirt-crash-steps.test.ts', 'test/storage/layout/ovirt/domain.test.ts'],
    mutants: [['a generation goes beyond 999', 'return (generation + 1) % (maxGeneration + 1)', 'return generation + 1', { tests: ['test/storage/layout/ovirt/volume-metadata.test.ts'] }]]
  },
  {
    file: 'src/storage/domain/changes.ts',
    tests: [order],
    mutants: [
      ['an image goes before the intent is durable', "    if (!isForeign) await writeIntent(area.copies,", "    if (!isForeign) await removeFile(area.root, image)\n    if (!isForeign) await writeIntent(area.copies,"],
      ['an image is created without its inode in the record', "      await writeRecord(area.copies, { ...creating, phase: 'finishing', inode })\n", '']
    ]
  }
]
