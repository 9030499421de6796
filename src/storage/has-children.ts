import { AppError } from '../errors.ts'

const named = 3
const listed = 100

/**
 * Others are based on an image or volume, so that it must stay.
 *
 * @param what the image or volume, in words.
 * @param consequence what did not happen.
 */
export function hasChildren (what: string, children: readonly string[], consequence: string): AppError {
  const names = children.length > named ? `${children.slice(0, named).join(', ')} and ${children.length - named} more` : children.join(', ')
  const remedy = 'Delete those first, or rebase them onto another base.'
  return new AppError('has-children', `${what} is the base of others: ${names}. ${consequence} ${remedy}`, {
    members: { children: children.slice(0, listed), childCount: children.length }
  })
}
