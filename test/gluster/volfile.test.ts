import t from 'tap'
import { cutClient } from '../../src/gluster/volfile.ts'

const client = (name: string, host: string, path: string): string => `volume ${name}
    type protocol/client
    option password ca33260b
    option remote-subvolume ${path}
    option remote-host ${host}
    option ping-timeout 42
end-volume
`
const rest = `
volume v0-dht
    type cluster/distribute
    option remote-host node2
    option remote-subvolume /srv/1/v0
    subvolumes v0-client-0 v0-client-1
end-volume
`
const volfile = [client('v0-client-0', 'node1', '/srv/1/v0'), client('v0-client-1', 'node2', '/srv/1/v0'), client('v0-client-2', 'node2', '/srv/1/v00'), rest].join('\n')

t.test('the client of one brick is cut out, and nothing else', async t => {
  t.equal(cutClient(volfile, { host: 'node2', path: '/srv/1/v0' }), client('v0-client-1', 'node2', '/srv/1/v0'))
  t.equal(cutClient(volfile, { host: 'node2', path: '/srv/1/v00' }), client('v0-client-2', 'node2', '/srv/1/v00'))
})

t.test('a brick that is not in it, or twice, is not guessed', async t => {
  t.equal(cutClient(volfile, { host: 'node3', path: '/srv/1/v0' }), undefined)
  t.equal(cutClient(volfile + client('v0-client-3', 'node1', '/srv/1/v0'), { host: 'node1', path: '/srv/1/v0' }), undefined)
  t.equal(cutClient('', { host: 'node1', path: '/srv/1/v0' }), undefined)
})
