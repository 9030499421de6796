import type { Command } from 'commander'
import { findImage } from './address.ts'
import { formatOption, type Format } from './copy.ts'
import type { Session } from './session.ts'
import { submit, withTaskOptions, type SubmitOptions } from './submit.ts'

interface VerifyOptions extends SubmitOptions {
  format?: Format
  againstFormat?: Format
}

export function addVerify (program: Command, session: Session): void {
  withTaskOptions(program.command('verify')
    .description('compare what a guest would see in two images; fails when they differ')
    .argument('<image>', 'an image')
    .argument('<against>', 'the image to compare it with')
    .addOption(formatOption('--format', 'the first image'))
    .addOption(formatOption('--against-format', 'the second image')))
    .addHelpText('after', `
Examples:
  vdsm-tasks verify local/copy.qcow2 local/sample.raw
  vdsm-tasks verify local/copy.qcow2 local/sample.raw --json`)
    .action(async (image: string, against: string, { format, againstFormat, ...task }: VerifyOptions) => {
      const [first, second] = await Promise.all([findImage(session, image), findImage(session, against)])
      await submit(session, {
        kind: 'storage.verifyImage',
        ...first,
        ...(format !== undefined && { format }),
        against: { ...second, ...(againstFormat !== undefined && { format: againstFormat }) }
      }, task, { resend: true })
    })
}
