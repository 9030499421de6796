import type { Command } from 'commander'
import type { BrokenImage, Task } from '../client/types.ts'
import { ProblemError } from '../client/errors.ts'
import { nameOf, quoted } from './address.ts'
import { attend } from './attend.ts'
import { exit, statusOfProblem } from './exit.ts'
import type { Session } from './session.ts'
import { newId, put } from './submit.ts'

type Broken = BrokenImage & { domain: string }

export function addFixes (program: Command, session: Session): void {
  program.command('fixes')
    .description('tell which images are broken and what helps')
    .argument('[domain]', 'only of this domain')
    .option('--apply', 'mend what can be mended, and follow that; nothing is deleted')
    .addHelpText('after', `
Examples:
  vdsm-tasks fixes
  vdsm-tasks fixes local --apply`)
    .action(async (domain: string | undefined, { apply = false }: { apply?: boolean }) => {
      const broken = await findBroken(session, domain)
      if (apply) await mendAll(session, broken)
      else tell(session, broken)
    })
}

async function findBroken ({ client }: Session, only: string | undefined): Promise<Broken[]> {
  const domains = only === undefined ? (await client.domains()).filter(({ state }) => state === 'available').map(({ domain }) => domain) : [only]
  const found = await Promise.all(domains.map(async domain => (await client.fixes(domain)).map(image => ({ domain, ...image }))))
  return found.flat()
}

function tell (session: Session, broken: readonly Broken[]): void {
  const { json, out } = session
  if (json) return out.document({ items: broken })
  if (broken.length === 0) return session.say('Nothing is broken.')
  out.table(['image', 'state', 'what helps', 'why'], broken.map(image =>
    [nameOf(image), image.state, image.fixes.map(({ action }) => action === 'mend' ? 'mend' : 'delete').join(' or ') || '-', image.detail]))
}

/** Mends side by side. Images that can only be deleted are named: that is for people to decide. */
async function mendAll (session: Session, broken: readonly Broken[]): Promise<void> {
  const tasks: Task[] = []
  for (const image of broken) {
    const mend = image.fixes.find(({ action }) => action === 'mend')
    // somebody is at it
    if (image.state === 'copying') continue
    if (mend === undefined) {
      session.say(`${nameOf(image)} cannot be mended: ${image.detail} ${image.fixes.length > 0 ? `To remove it: ${session.hint(`delete ${quoted(nameOf(image))}`)}` : ''}`)
      session.status = exit.failed
      continue
    }
    try {
      tasks.push(await put(session, newId(mend.task.kind), mend.task))
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error
      // the others are not to wait for it
      session.say(`${nameOf(image)}: ${error.message}`)
      session.status = statusOfProblem(error)
    }
  }
  if (tasks.length === 0 && session.status === exit.done && !session.json) session.say('There is nothing to mend.')
  await attend(session, tasks, { resend: true })
}
