import type { Command } from 'commander'
import { UsageError } from './exit.ts'

/** What `--help` tells of `serve`. As the first word it never comes here: main.ts then becomes the agent. */
export function addServe (program: Command): void {
  program.command('serve')
    .description('run the agent')
    .allowUnknownOption()
    .allowExcessArguments()
    .addHelpText('after', '\nvdsm-tasks serve --help tells the options of the agent itself.')
    .action(() => { throw new UsageError('"serve" must be the first word: it takes its own options only, see vdsm-tasks serve --help.') })
}
