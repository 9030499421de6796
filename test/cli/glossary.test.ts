import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { inCommands } from '../../src/cli/glossary.ts'

t.test('what the agent says to programs is said in commands and options', async t => {
  for (const [said, told] of [
    ['The name b.x does not tell its format. Give "format": "raw" or "qcow2"; a format is never guessed.', /Give --format raw or --format qcow2 \(--source-format for the source/],
    ['Delete it first, choose another name, or say "onExisting": "replace".', 'Delete it first, choose another name, or give --on-existing replace.'],
    ['Make space, or say "ignoreSpace": true to try it.', 'Make space, or give --ignore-space to try it.'],
    ['This agent has no domain x. GET /domains lists those it has.', 'This agent has no domain x. "vdsm-tasks domains" lists those it has.'],
    ['body.virtualSize must be multiple of 512. GET /openapi.json tells what is allowed.', '<size> must be multiple of 512. --help tells what is allowed.'],
    ['body.target.image must match pattern "^[a-z]+$". GET /openapi.json tells what is allowed.', '<target> has characters that are not allowed there, or too many. --help tells what is allowed.'],
    ['body.target.image must match pattern "^[A-Za-z0-9_][A-Za-z0-9 ._-]*$".', '<target> has characters that are not allowed there, or too many.'],
    ['params.id must match pattern "^x$".', 'The id of the task has characters that are not allowed there, or too many.'],
    ['querystring.kind: "x" is no kind of task.', '--kind: "x" is no kind of task.'],
    ['Task a is another command (storage.copyImage, failed). Choose another id, or reuse this one with If-Match: "i.r.1.0".', 'Task a is another command (storage.copyImage, failed). Choose another --id.'],
    ['Send createImage again, or deleteImage.', 'Give "vdsm-tasks create" again, or "vdsm-tasks delete".'],
    ['mendImage copies it anew, deleteImage removes it.', '"vdsm-tasks mend" copies it anew, "vdsm-tasks delete" removes it.'],
    ['local/a is in use by task r (storage.mendImage, running).', 'local/a is in use by task r (storage.mendImage, running).'],
    ['The body of the guest has a query.', 'The body of the guest has a query.']
  ] as const) t.match(inCommands(said), told, said)
})

/** Problems that no command line gets: of requests that it does not make, and of how the agent is set up. */
const neverSeen = /'(bad-request', ['`]querystring\.cursor|domain-unavailable', `Domain \$\{id\} is not created|precondition|method-not-allowed|not-found', `There is nothing|origin-not-allowed|host-not-allowed|unsupported-media-type|headers-too-large|cursor-gone|instance-changed)/

t.test('no refusal in the source is left in words of the API', async t => {
  const src = fileURLToPath(new URL('../../src/', import.meta.url))
  const files = (await readdir(src, { recursive: true })).filter(file => /^(auth|gluster|http|storage|tasks)\/.*\.ts$/.test(file))
  const details = (await Promise.all(files.map(async file => {
    const lines = (await readFile(join(src, file), 'utf8')).split('\n')
    return lines.flatMap(line => {
      const [, code = '', , detail] = /((?:AppError|problem|conflict)\('[a-z-]+'), ([`'])(.*?[^\\])\2/.exec(line) ?? []
      return detail === undefined || neverSeen.test(line) ? [] : [{ file, code, detail: detail.replaceAll(/\$\{[^}]*\}/g, 'X') }]
    })
  }))).flat()
  t.ok(details.length > 80, `${details.length} refusals were found`)
  for (const { file, code, detail } of details) {
    t.notMatch(inCommands(detail), /(GET|PUT|PATCH|DELETE) \/|"[a-zA-Z]+":|(mend|delete|create|copy)Image|(body|querystring|params)\.|If-Match|Prefer:/, `${file}: ${code}`)
  }
})
