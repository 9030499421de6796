import { Type, type Static } from '@sinclair/typebox'
import { Bytes, Strict, Time, Words } from './schema.ts'
import { DomainId } from './names.ts'

export const Layout = Words(['directory', 'ovirt'], { description: '`directory`: plain image files; `ovirt`: a file domain of oVirt, storage format V5.' })
export type Layout = Static<typeof Layout>

export const Leasing = Words(['flock', 'sanlock'], { description: 'What keeps two hosts from writing the same volume: `flock`: locks on files of our own; `sanlock`: the leases of volumes that vdsm takes, too.' })
export type Leasing = Static<typeof Leasing>

export const LeaseStatus = Strict({
  kind: Words(['sanlock']),
  state: Words(['ready', 'joining', 'unavailable'], { description: '`joining`: this host is just joining the lockspace of the domain, which takes twenty seconds; `unavailable`: it has not joined it. Images can be read then, but not written.' }),
  hostId: Type.Optional(Type.Integer({ description: 'The number of this host in the lockspace.' })),
  detail: Type.Optional(Type.String({ description: 'Why it is not ready, and what to do.' }))
})
export type LeaseStatus = Static<typeof LeaseStatus>

export const LockProblem = Strict({
  code: Words(['locks-broken', 'domain-id-conflict', 'host-id-duplicate'], {
    description: '`locks-broken`: two hosts can hold the same lock; `domain-id-conflict`: the directory is attached ' +
      'under two domain ids. Both refuse commands. `host-id-duplicate`: another agent has the same `hostId`, which ' +
      'refuses nothing.'
  }),
  detail: Type.String({ description: 'Who it is, and what to do.' })
})
export type LockProblem = Static<typeof LockProblem>

export const LockStatus = Strict({
  state: Words(['checking', 'alone', 'proven', 'broken', 'conflict'], {
    description: '`checking`: another agent was found, or one that may have died, and it is not clear yet whether ' +
      'locks hold against it; commands wait. `alone`: no other agent shows itself. `proven`: locks of other agents ' +
      'hold. `broken`, `conflict`: commands are refused, see `problems`.'
  }),
  agents: Type.Integer({ minimum: 0, description: 'Other agents that have the domain attached now.' }),
  problems: Type.Optional(Type.Array(LockProblem, { description: 'Absent when there are none.' }))
}, { description: 'Whether the locks of this agent and of others exclude each other on this file system.' })
export type LockStatus = Static<typeof LockStatus>

export const DomainState = Words(['starting', 'available', 'unavailable', 'unresponsive'], {
  description: '`starting`: the agent has not looked at it yet, and reads and commands wait; `unavailable`: not mounted, ' +
    'not the domain it should be, or locks do not work there: see `code`; `unresponsive`: its file system does not answer.'
})

export const DomainStatus = Strict({
  domain: DomainId,
  layout: Layout,
  path: Type.String({ description: 'Where the domain is on this host.' }),
  state: DomainState,
  leaving: Type.Optional(Type.Boolean({ description: 'It is no longer in the configuration: it takes no new tasks, and is detached when those that use it have ended.' })),
  code: Type.Optional(Type.String({
    description: 'Why it is not available, as the code of the problem that commands are refused with: ' +
      '`domain-unavailable`, `storage-unresponsive`, `locks-broken`, `domain-id-conflict`, for example.'
  })),
  detail: Type.Optional(Type.String({ description: 'Why it is not available.' })),
  bytesTotal: Type.Optional(Bytes('Size of the file system.')),
  bytesFree: Type.Optional(Bytes('Free space on it.')),
  local: Type.Optional(Type.Boolean({ description: 'The file system belongs to this host alone.' })),
  leases: Type.Optional(LeaseStatus),
  locks: Type.Optional(LockStatus),
  warnings: Type.Optional(Type.Array(Type.String(), { description: 'What is not as it should be, but refuses nothing: a mount on which leases do not hold across hosts, for example. Absent when there is nothing to say.' })),
  observedAt: Time('When the storage was looked at.')
}, { $id: 'DomainStatus', description: 'A storage domain as this host sees it.' })
export type DomainStatus = Static<typeof DomainStatus>
