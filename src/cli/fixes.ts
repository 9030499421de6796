import type { Command } from 'commander'
import type { BrokenImage, Task } from '../client/types.ts'
import { ProblemError } from '../client/errors.ts'
import { nameOf, quoted } from './address.ts'
import { attend } from './attend.ts'
import { readDomains, type Found } from './every-domain.ts'
import { exit, statusOfProblem } from './exit.ts'
import { inCommands } from './glossary.ts'
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
      if (apply) await mendAll(session, broken.items)
      else tell(session, broken)
    })
}

async function findBroken (session: Session, only: string | undefined): Promise<Found<Broken>> {
  return await readDomains(session, only, async domain => (await session.client.fixes(domain)).map(image => ({ domain, ...image })))
}

function tell (session: Session, found: Found<Broken>): void {
  const { json, out } = session
  if (json) return out.document(found)
  if (found.items.length === 0) return session.say(found.unknown === undefined ? 'Nothing is broken.' : 'Nothing is broken in the other domains.')
  out.table(['image', 'state', 'what helps', 'why'], found.items.map(image =>
    [nameOf(image), image.state, image.fixes.map(({ action, task }) => task.kind === 'storage.forgetCopy' ? 'forget' : action === 'mend' ? 'mend' : 'delete').join(' or ') || '-', image.detail]))
}

/** The command that does what a fix says. One that creates again has more in it than a command line says. */
export function commandOf ({ task }: BrokenImage['fixes'][number]): string {
  if (task.kind === 'storage.mendImage') return `mend ${quoted(nameOf(task))}`
  if (task.kind === 'storage.forgetCopy') return `forget ${quoted(nameOf(task))}`
  return task.kind === 'storage.deleteImage' ? `delete ${quoted(nameOf(task))}` : 'fixes --apply'
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
      session.say(`${nameOf(image)}: ${inCommands(error.message)}`)
      session.status = statusOfProblem(error)
    }
  }
  if (tasks.length === 0 && session.status === exit.done && !session.json) session.say('There is nothing to mend.')
  await attend(session, tasks, { resend: true })
}
