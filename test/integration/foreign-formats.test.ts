import { join } from 'node:path'
import t from 'tap'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { makeOld, sh, sha256 } from '../helpers/images.ts'

t.setTimeout(120_000)

const path = await temporaryDirectory(t)
const agent = await startAgent(t, { domains: [{ id: 'local', path, create: true }] })
const at = (name: string) => join(path, name)
const make = async (name: string, ...options: string[]) => {
  await sh('qemu-img', 'create', '-q', ...options, at(name), '8M')
  await makeOld(at(name))
}
const dryRun = async (spec: object) =>
  await agent.request<{ plan: { warnings?: string[] } }>('PUT', '/tasks/dry?dryRun=true', { body: spec })

t.test('an image of another format that is called qcow2 is refused with what it is, and its status says so, too', async t => {
  for (const [name, options, words] of [
    ['vmdk', ['-f', 'vmdk'], 'VMDK'], ['vdi', ['-f', 'vdi'], 'VDI'], ['vhdx', ['-f', 'vhdx'], 'VHDX'], ['vhd', ['-f', 'vpc'], 'VHD'],
    ['fixed', ['-f', 'vpc', '-o', 'subformat=fixed'], 'VHD']
  ] as const) {
    const image = `${name}.qcow2`
    await make(image, ...options)
    const refusal = { code: 'image-invalid', detail: new RegExp(`looks like a ${words} image.*qemu-img convert`) }
    t.match(await agent.refused(name, copySpec(image, 'copy.raw')), { status: 422, body: refusal })
    t.match(await dryRun(copySpec(image, 'copy.raw')), { status: 422, body: refusal })
    t.match(await agent.image('local', image), { status: 200, body: { state: 'illegal', detail: refusal.detail } })
  }
})

t.test('a raw image that looks like another format is copied as it is, with a warning', async t => {
  for (const [name, options, words] of [
    ['vmdk.raw', ['-f', 'vmdk'], /vmdk\.raw is read as raw.*a VMDK image/],
    ['vdi.img', ['-f', 'vdi'], /a VDI image/],
    ['fixed.img', ['-f', 'vpc', '-o', 'subformat=fixed'], /a VHD image/],
    ['cloud.img', ['-f', 'qcow2'], /a qcow2 image.*"format": "qcow2"/]
  ] as const) {
    await make(name, ...options)
    const spec = copySpec(name, `copy-of-${name}`)
    t.match((await dryRun(spec)).body.plan, { outcome: 'copy', warnings: [words] }, name)
    t.match((await agent.image('local', name)).body, { state: 'ok', warnings: [words] })
    t.match(await agent.done(name, spec), { state: 'succeeded', result: { warnings: [words] } })
    t.equal(await sha256(at(`copy-of-${name}`)), await sha256(at(name)))
  }
  await make('plain.raw', '-f', 'raw')
  t.notOk('warnings' in (await dryRun(copySpec('plain.raw', 'copy.raw'))).body.plan)
  t.notOk('warnings' in (await agent.image('local', 'plain.raw')).body)
})
