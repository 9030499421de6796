/** Sequences that set a title, clear the screen and write colours; C1, DEL, bidi, invisible characters, a forged line. */
export const steering = '\u001b]0;owned\u0007\u001b[2J\r\n\u007f\u009b31m\u202egnp.\u2066\u061c\u200f\ufeff\u2028\u2029'

/** What a terminal must not be sent: all but what Latin-1 can print, line feeds, the bars, and the colours of our own. */
export function strangeIn (text: string): string | undefined {
  // eslint-disable-next-line no-control-regex
  return /[^\x20-\x7e\xa1-\xac\xae-\xff\n█░…]/.exec(text.replaceAll(/\r?(\x1b\[(1|2|22|31|32|33|36|39)m|\x1b\[2K|\x1b\[1A)/g, ''))?.[0]
}
