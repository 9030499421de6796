import { captures, commandOf } from '/work/main/test/gluster/fixture.ts'
for (const c of captures) console.log(c, '|', commandOf(c))
