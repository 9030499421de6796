/**
 * What it most likely means that a program was ended by a signal which nobody here has sent. What we end ourselves is told
 * as what made us do it.
 */
const meanings: Readonly<Record<string, string>> = {
  SIGKILL: 'somebody killed it; most often that is the kernel when memory runs out (see dmesg for "Out of memory")',
  SIGXFSZ: 'its file grew beyond the largest that the agent may write (ulimit -f)',
  SIGXCPU: 'it used more processor time than it is allowed for a disk of this size',
  SIGBUS: 'a file that it uses was cut off, or cannot be read any more',
  SIGABRT: 'it gave up',
  SIGTRAP: 'it gave up',
  SIGSEGV: 'it has a fault, or its memory has',
  SIGILL: 'it has a fault, or is built for another processor',
  SIGFPE: 'it has a fault',
  SIGSYS: 'it made a system call that it is not allowed'
}

/** A signal, and what it most likely means: `was ended by SIGKILL: ...`. */
export function signalWords (signal: string): string {
  return `was ended by ${signal}: ${meanings[signal] ?? 'somebody sent it that'}`
}
