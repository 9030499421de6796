/** What the gluster program takes of a line of standard input: a longer one is cut, and its rest is the next command. */
const longestLine = 1000

/** Whether a command can be given on standard input. There are no quotes: words are what is between white space. */
export function fitsBatch (args: readonly string[]): boolean {
  const line = args.join(' ')
  return line.length <= longestLine && args.every(word => /^[\x21-\x7e]+$/.test(word))
}

/** Commands for standard input, in order. */
export function formatBatch (commands: ReadonlyArray<readonly string[]>): string {
  return commands.map(args => `${args.join(' ')}\n`).join('')
}

/** The documents that were printed one after another, whatever is between them. The last may be cut off. */
export function splitAnswers (stdout: string): string[] {
  return stdout.split(/(?=<\?xml )/).filter(part => part.startsWith('<?xml '))
    .map(part => part.replace(/(<\/cliOutput\s*>)[^<]*$/, '$1'))
}
