import process from 'node:process'
import { fallbackVariable, mayBecomeOthers, reportCommand, type FileSystemConfinement } from './confine.ts'
import { CommandError, run, runOk } from './run.ts'

/** What holds for the programs that open images. */
export interface ConfinementInForce {
  fileSystem: FileSystemConfinement
  /** `none`, or, as a last resort, the one that a program needs to open its files. */
  capabilities: 'none' | 'when-needed'
  /** Whose they are: the owner of the images, or the user of the agent. */
  user: 'owner' | 'agent'
}

let found: Promise<ConfinementInForce> | undefined

/**
 * Finds out what this host has to confine programs with, and has the children of this process use it. The launcher
 * sees by itself whether the kernel has Landlock; whether bubblewrap works instead, only a trial tells.
 */
export async function confinementInForce (): Promise<ConfinementInForce> {
  found ??= find()
  return await found
}

async function find (): Promise<ConfinementInForce> {
  const fileSystem = await findFileSystem()
  if (fileSystem === 'mount-namespace') process.env[fallbackVariable] = 'bwrap'
  const user = mayBecomeOthers() ? 'owner' : 'agent'
  return { fileSystem, capabilities: user === 'owner' && fileSystem !== 'none' ? 'when-needed' : 'none', user }
}

async function findFileSystem (): Promise<FileSystemConfinement> {
  const { stdout } = await runOk(reportCommand('none'))
  if (stdout.trim() === 'landlock') return 'landlock'
  try {
    const { exitCode, stdout } = await run(reportCommand('bwrap'))
    return exitCode === 0 && stdout.trim() === 'mount-namespace' ? 'mount-namespace' : 'none'
  } catch (error) {
    // bubblewrap is not there, or may not make namespaces
    if (error instanceof CommandError) return 'none'
    throw error
  }
}
