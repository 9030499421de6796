import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import type { ImageEntry } from '../../src/api/image.ts'
import { copySpec, startAgent } from '../helpers/agent.ts'
import { temporaryDirectory } from '../helpers/directory.ts'
import { MiB, sh } from '../helpers/images.ts'
import { until } from '../helpers/processes.ts'
import { domainMetadata, metaText, metaValues, uuid } from '../helpers/ovirt.ts'

t.setTimeout(120_000)

// lengths and times that a file system allows and nothing else: ext4 has neither, tmpfs and XFS have
const top = await temporaryDirectory(t)
const [memory, shared] = [join(top, 'memory'), join(top, 'shared')]
const [ovirt, image, volume] = [uuid('domain'), uuid('image'), uuid('volume')]
for (const path of [memory, shared, join(top, 'large')]) await mkdir(path)
const agent = await startAgent(t, {
  domains: [{ id: 'memory', path: memory, create: true }, { id: 'local', path: join(top, 'large'), create: true }, { id: ovirt, path: join(shared, ovirt), layout: 'ovirt' }],
  mounts: [memory, shared].map(path => ({ path, bytes: 64 * MiB }))
})
const at = (...path: string[]) => agent.within(join(top, ...path))
const shell = async (script: string) => await sh('sh', '-ec', script)

t.test('files that are absurdly long or old stand in the list of their domain like all others, and are no images', async t => {
  await shell(`truncate -s 1M '${at('memory', 'good.raw')}' '${at('memory', 'late.raw')}' '${at('memory', 'early.raw')}'`)
  await shell(`touch -d @99999999999999 '${at('memory', 'late.raw')}' && touch -d @-99999999999999 '${at('memory', 'early.raw')}'`)
  await shell(`truncate -s 8000P '${at('memory', 'long.raw')}' && qemu-img create -q -f qcow2 '${at('memory', 'wide.qcow2')}' 1M && printf '\\x40' | dd of='${at('memory', 'wide.qcow2')}' bs=1 seek=24 conv=notrunc status=none`)
  const { status, body: { items } } = await agent.request<{ items: ImageEntry[] }>('GET', '/domains/memory/images')
  t.equal(status, 200)
  t.match(items, [
    { image: 'early.raw', fileSize: MiB, modifiedAt: '0000-01-01T00:00:00.000Z' },
    { image: 'good.raw', fileSize: MiB },
    { image: 'late.raw', fileSize: MiB, modifiedAt: '9999-12-31T23:59:59.999Z' },
    { image: 'long.raw', fileSize: Number.MAX_SAFE_INTEGER },
    { image: 'wide.qcow2' }
  ])
  for (const name of ['long.raw', 'wide.qcow2']) {
    const { status, body } = await agent.image('memory', name)
    t.match([status, body], [200, { state: 'illegal', detail: /claims a virtual size of \d{19} bytes/ }])
    for (const spec of [copySpec('', 'copy.raw', { source: { domain: 'memory', image: name } }), { kind: 'storage.verifyImage', domain: 'memory', image: name, against: { domain: 'memory', image: 'good.raw' } }]) {
      t.match((await agent.refused(`of-${name}`, spec)).body, { code: 'image-invalid', detail: /claims a (virtual )?size of \d{19} bytes/ })
    }
  }
  t.match(await agent.done('copy', copySpec('', 'copy.raw', { source: { domain: 'memory', image: 'late.raw' } })), { state: 'succeeded' })
})

t.test('so do volumes', async t => {
  const images = join('shared', ovirt, 'images', image)
  await shell(`mkdir -p '${at('shared', ovirt, 'dom_md')}' '${at(images)}'`)
  await shell(`cat > '${at('shared', ovirt, 'dom_md', 'metadata')}' <<'END'\n${domainMetadata(ovirt).toString()}\nEND`)
  await shell(`truncate -s 8000P '${at(images, volume)}' && touch -d @99999999999999 '${at(images, volume)}' && touch '${at(images, `${volume}.lease`)}'`)
  await shell(`cat > '${at(images, `${volume}.meta`)}' <<'END'\n${metaText(metaValues(ovirt, image))}END`)
  await until(async () => (await agent.request<{ state: string }>('GET', `/domains/${ovirt}`)).body.state === 'available')
  t.match(await agent.request('GET', `/domains/${ovirt}/images`), { status: 200, body: { items: [{ image, fileSize: Number.MAX_SAFE_INTEGER, modifiedAt: '9999-12-31T23:59:59.999Z' }] } })
  t.match(await agent.image(ovirt, image), { status: 200, body: { volumes: [{ info: { apparentsize: Number.MAX_SAFE_INTEGER } }] } })
})
