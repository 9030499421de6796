import { AppError, type ErrorCode } from '../errors.ts'
import type { Answer } from './answers.ts'

// Nearly every refusal has the errno 30800, so the words must be read; LC_ALL=C keeps them English. The first match
// counts: "Rebalance not started for volume" is not about a volume that is not started.
const refusals: ReadonlyArray<readonly [RegExp, ErrorCode]> = [
  [/another transaction (is|could be) in progress|^locking failed/i, 'gluster-busy'],
  [/request timed out/i, 'gluster-unresponsive'],
  [/volume (\S+ )?does not exist/i, 'volume-not-found'],
  [/incorrect brick (?!count)/i, 'brick-not-found'],
  [/(rebalance|remove-brick) not started for volume|is not decommissioned/i, 'operation-not-running'],
  [/needs to be started|volume \S+ is not (in )?(the )?started|volume \S+ is stopped/i, 'volume-not-started'],
  [/not a distribute volume|contains only 1 brick/i, 'not-distributed'],
  [/remove-brick task .* not yet committed|earlier remove-brick task exists/i, 'remove-brick-uncommitted'],
  [/migration (is in progress|has failed)/i, 'remove-brick-unfinished'],
  [/rebalance (session )?is in progress|rebalance on \S+ is already started/i, 'operation-conflict']
]

// These are told after the command has reached some of the hosts.
const halfDone = /commit failed|brick ops failed|post validation failed|request timed out/i

/** What `gluster` refused as an error of ours; its own words are kept in the detail. */
export function refusalOf (answer: Pick<Answer, 'words' | 'errno'>, command: string, changes: boolean): AppError {
  const words = answer.words.replace(/\s+/g, ' ').trim()
  const code = refusals.find(([pattern]) => pattern.test(words))?.[1] ?? 'gluster-refused'
  return new AppError(code, `${command}: Gluster says: ${words === '' ? `error ${answer.errno}` : words}`, {
    changed: changes && halfDone.test(words)
  })
}

/** Plain text where XML was asked for: a glusterd that is down is told that way. */
export function isUnavailable (output: string): boolean {
  return /connection failed\. please check if gluster daemon is operational/i.test(output)
}
