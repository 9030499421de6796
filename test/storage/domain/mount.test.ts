import t from 'tap'
import { openArea, prepareArea } from '../../../src/storage/area.ts'
import { findMount, glusterWarnings, mountWarnings, nfsWarnings } from '../../../src/storage/domain/mount.ts'
import { temporaryDirectory } from '../../helpers/directory.ts'

const mountinfo = `22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw,discard
162 93 0:49 / /srv/my\\040data rw,relatime - fuse.glusterfs node2:/dom rw,user_id=0,allow_other
163 93 0:50 / /mnt/nfs rw - nfs4 server:/export rw,vers=4.2,local_lock=none,addr=10.0.0.1
`

t.test('a mount is found by its number', async t => {
  t.same(findMount(mountinfo, '22'), { at: '/', type: 'ext4', options: ['rw', 'discard'] })
  t.match(findMount(mountinfo, '162'), { at: '/srv/my data', type: 'fuse.glusterfs' })
  t.equal(findMount(mountinfo, '2'), undefined)
  t.equal(findMount(mountinfo, undefined), undefined)
})

t.test('NFS is warned of when its locks are only this host\'s own', async t => {
  const warned = (...options: string[]) => nfsWarnings('d', { at: '/mnt', options }).length > 0
  t.notOk(warned('rw', 'vers=4.2', 'local_lock=none'))
  t.notOk(warned('rw', 'lock'))
  for (const option of ['nolock', 'local_lock=all', 'local_lock=flock', 'local_lock=posix']) t.ok(warned('rw', option), option)
})

t.test('Gluster is warned of unless every one of its clients has strict locks', async t => {
  const client = (name: string, ...options: string[]) => `volume ${name}\n    type protocol/client\n    option volfile-key /dom\n${options.map(option => `    option ${option}\n`).join('')}end-volume\n\n`
  const top = 'volume dom\n    type debug/io-stats\n    subvolumes a\nend-volume\n'
  t.same(glusterWarnings('d', client('a', 'strict-locks on') + client('b', 'strict-locks on') + top), [])
  t.match(glusterWarnings('d', client('a', 'strict-locks on') + client('b') + top), [/gluster volume set dom client.strict-locks on/])
  t.match(glusterWarnings('d', client('a', 'strict-locks off')), [/strict-locks/])
  t.same(glusterWarnings('d', 'something else'), [], 'what is not understood is not warned of')
})

t.test('a local file system is not warned of', async t => {
  const place = { id: 'd', path: await temporaryDirectory(t) }
  await prepareArea(place, true)
  const area = await openArea(place)
  t.same(await mountWarnings({ ...area, local: true }), [])
  t.same(await mountWarnings({ ...area, local: false }), [], 'nor one that is of another kind')
  await area.close()
})
