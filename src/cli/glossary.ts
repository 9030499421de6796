// The agent speaks to programs: its problems name members of bodies and addresses. Whoever types commands is told of options
// and commands instead.

/** Members of bodies, parameters of addresses, and what they are called here. */
const places: Readonly<Record<string, string>> = {
  id: 'The id of the task',
  virtualSize: '<size>',
  clusterSize: '--cluster-size',
  bandwidth: '--bandwidth',
  replica: '--replica',
  bricks: '<brick>',
  mode: '--mode',
  state: '--state',
  kind: '--kind',
  type: '--type',
  idPrefix: '--id-prefix',
  lastEventId: '--after'
}

const phrases: ReadonlyArray<readonly [RegExp, string | ((...found: string[]) => string)]> = [
  [/\b(?:body|params|querystring)((?:\.\w+)*)(?=: | has | needs | must )/g, (_, path = '') => placeOf(path)],
  [/must match pattern "[^"]+"/g, 'has characters that are not allowed there, or too many'],
  [/Give "format": "raw" or "qcow2"/g, 'Give --format raw or --format qcow2 (--source-format for the source of a copy, --against-format for the second image of verify)'],
  [/or say "onExisting": "replace"/g, 'or give --on-existing replace'],
  [/(?:say|send) "ignoreSpace": true/g, 'give --ignore-space'],
  [/send "allocation": "sparse"/g, 'give --allocation sparse'],
  [/(?:the start|startRemoveBrick|startVolumeRebalance) with "restart": true/g, 'the start with --restart'],
  [/(?:S|s)end startRemoveBrick for the same bricks with "restart": true/g, 'Start the removal of the same bricks again with --restart'],
  [/Leave out "refuseLoss"/g, 'Leave out --refuse-loss'],
  [/say which "volume"/g, 'say which volume (DOMAIN/IMAGE/VOLUME)'],
  [/commit with force/g, 'commit with --force'],
  [/, or reuse this one with If-Match: "\S+"/g, ''],
  [/Choose another id/g, 'Choose another --id'],
  [/Wait for a change with "Prefer: wait=N", or follow \/events, instead of asking often/g, 'Follow with "vdsm-tasks wait" or "vdsm-tasks events" instead of asking often'],
  [/GET \/domains\/\{domain\}\/images\/\{image\} tells/g, '"vdsm-tasks status IMAGE" tells'],
  [/GET \/domains (?=lists|tells)/g, '"vdsm-tasks domains" '],
  [/GET \/openapi\.json tells/g, '--help tells'],
  [/Send (create|delete)Image again/g, (_, verb = '') => `Give "vdsm-tasks ${verb}" again`],
  [/(?<![.\w])forgetCopy\b/g, '"vdsm-tasks forget"'],
  [/(?<![.\w])(create|delete|mend)Image\b/g, (_, verb = '') => `"vdsm-tasks ${verb}"`]
]

function placeOf (path: string): string {
  const [, member = '', ...inner] = path.split('.')
  if (member === 'source' || member === 'target' || member === 'against') return `<${member}>`
  return places[member] ?? (member === 'domain' || member === 'image' || member === 'volume' ? `<${member}>` : [member, ...inner].join('.') || 'The command')
}

/** The detail of a problem in the words of the command line. With `--json` it stays as the agent said it. */
export function inCommands (detail: string): string {
  let text = detail
  for (const [phrase, words] of phrases) text = text.replace(phrase, words as string)
  return text
}
