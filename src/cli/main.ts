#!/usr/bin/env node
import process from 'node:process'

const args = process.argv.slice(2)
// the agent is a process of its own kind, with its own signals; and it is large: other commands begin without it
if (args[0] === 'serve') {
  const { serve } = await import('../serve.ts')
  await serve(args.slice(1))
} else {
  const [{ Session }, { run }, { watchReader }] = await Promise.all([import('./session.ts'), import('./program.ts'), import('./reader.ts')])
  const { stdin, stdout, stderr, env } = process
  const onReaderGone = (gone: () => void) => { process.once('exit', watchReader(process.pid, gone)) }
  const session = new Session({ stdin, stdout, stderr, env, directory: process.cwd(), exit: code => process.exit(code), onReaderGone })
  for (const stream of [stdout, stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
      session.gone()
    })
  }
  process.on('SIGINT', () => { session.interrupt() })
  process.exitCode = await run(args, session)
}
