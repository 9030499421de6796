// C0, DEL and C1 (Cc), bidi controls and other format controls (Cf), line and paragraph separators (Zl, Zp), halves of
// surrogate pairs (Cs), and all else that is drawn as nothing, such as variation selectors and Hangul fillers.
const unprintable = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu
const unprintableButLineFeed = /(?!\n)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}]/gu

/**
 * Replaces every character that a terminal obeys or that a reader cannot see by its JSON escape (`\u001b`). For text that
 * others wrote: images, programs, other hosts, foreign servers. Line breaks are replaced, too: the result is one line.
 */
export function escapeUnprintable (text: string): string {
  return text.replaceAll(unprintable, escaped)
}

/** Like `escapeUnprintable`, but keeps line feeds. Applied to a JSON document, it changes none of its values. */
export function escapeUnprintableLines (text: string): string {
  return text.replaceAll(unprintableButLineFeed, escaped)
}

/** A copy of plain data with `escapeUnprintable` applied to every string and every key in it. */
export function escapeUnprintableDeep (value: unknown): unknown {
  if (typeof value === 'string') return escapeUnprintable(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(escapeUnprintableDeep)
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [escapeUnprintable(key), escapeUnprintableDeep(member)]))
}

/** By UTF-16 code units, as JSON escapes what is beyond the first plane. */
function escaped (character: string): string {
  let text = ''
  for (let index = 0; index < character.length; index++) text += `\\u${character.charCodeAt(index).toString(16).padStart(4, '0')}`
  return text
}
