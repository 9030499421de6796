// Runs a long program by run(), prints its pid, and waits for it.
import { run } from '../../src/system/run.ts'

await run(['sh', '-c', 'echo $$; exec sleep 1000'], { onStdout: text => { process.stdout.write(text) } })
