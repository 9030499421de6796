import { AppError } from '../../errors.ts'
import { hasState, type HeaderState } from '../../qemu/header-state.ts'
import { wordsOf } from '../record.ts'
import type { Session } from './session.ts'

/**
 * Makes sure that the headers of part and source are those that were found to be harmless. Every qemu-img reads them
 * again, and anybody who can write to a domain can make them name other files in between. qemu-img could not open
 * those (see qemu/run.ts), but nobody is to get an image that names them. Throws `header-changed`.
 */
export async function assertHeaders ({ source, part, record }: Session): Promise<void> {
  const name = wordsOf(record)
  for (const file of source.files) await assertHeader(file, `the source ${wordsOf(file)}`, name)
  await assertHeader(part, 'the copy', name)
}

/** A volume that is copied as it is, is to begin as its source does. */
export async function assertCopiedHeader ({ source: { files: [top] }, part, record }: Session): Promise<void> {
  if (record.layer?.format === 'qcow2') await assertHeader({ fd: part.fd, header: top.header }, 'the copy', wordsOf(record))
}

async function assertHeader ({ fd, header }: { fd: number, header?: HeaderState | undefined }, what: string, copy: string): Promise<void> {
  if (header === undefined || await hasState(fd, header)) return
  throw new AppError('header-changed', `The header of ${what} was changed by another program while ${copy} was being copied: it may name files that are none of its business, and nothing more is done with it. Find out who writes to the domain, delete ${copy} and copy again.`)
}
