import { Type, type Static } from '@sinclair/typebox'
import { DomainId } from './names.ts'
import { DomainState, LeaseStatus } from './domain.ts'
import { Ref, Strict, Time, Words } from './schema.ts'

export const Agent = Strict({
  name: Type.Literal('vdsm-tasks'),
  version: Type.String({ description: 'The version of the API, as semantic versioning has it.' }),
  hostId: Type.String({ description: 'What this host is called in copy records.' }),
  instance: Type.String({ description: 'Random for each start of the agent: another one means that all tasks were forgotten.' }),
  startedAt: Time('When this instance began.'),
  kinds: Type.Array(Type.String(), { description: 'The kinds of tasks it takes.' }),
  limits: Strict({
    maxActive: Type.Integer({ description: 'Active tasks.' }),
    maxRetained: Type.Integer({ description: 'Tasks, active and finished.' }),
    maxConcurrentCopies: Type.Integer({ description: 'Copies that run at the same time; others wait.' }),
    retentionSeconds: Type.Number({ description: 'How long a finished task can be read.' }),
    maxWaitSeconds: Type.Number({ description: 'The longest `Prefer: wait`.' }),
    maxBodyBytes: Type.Integer()
  }),
  confinement: Strict({
    fileSystem: Words(['landlock', 'mount-namespace', 'none'], { description: 'What keeps them from every other file: Landlock of the kernel, or a mount namespace (bubblewrap). `none`: this host has neither.' }),
    capabilities: Words(['none', 'when-needed'], { description: '`none`: they have none. `when-needed`: they have none either, but for the one that lets them open the files which no single user of the host may open together.' }),
    user: Words(['owner', 'agent'], { description: 'Whose they are: the owner of the images (`owner` of the domain), or, where the agent may not choose, its own user.' })
  }, { description: 'What holds for the programs that open images, as qemu-img: an image may have been made to take one over.' }),
  links: Type.Record(Type.String(), Type.String(), { description: 'Where else to look.' })
}, { $id: 'Agent', description: 'This agent: who it is, what it takes, and its limits.' })
export type Agent = Static<typeof Agent>

export const Caller = Strict({
  who: Type.String({ description: 'The name of the token or certificate; `local` for those who need neither.' }),
  via: Words(['token', 'session', 'certificate', 'unix socket', 'loopback'], { description: 'How the agent knows.' }),
  scope: Words(['read', 'operate', 'admin'], { description: '`read` looks, `operate` also creates, changes and cancels tasks, `admin` may everything.' })
}, { $id: 'Caller', description: 'Who sends the request, and what he may do.' })
export type Caller = Static<typeof Caller>

export const ConfigurationStatus = Strict({
  state: Words(['current', 'failed'], { description: '`current`: what the file says is in force. `failed`: the last attempt to read it again found something wrong.' }),
  readAt: Time('When all of it was last read and put in force.'),
  failedAt: Type.Optional(Time('When the last attempt failed.')),
  problems: Type.Optional(Type.Array(Type.String(), { description: 'What is wrong, and where.' }))
}, {
  $id: 'ConfigurationStatus',
  description: 'Whether the configuration in force is that of the file. After an attempt that failed, tokens and clients are those that could still be read, and nobody else gets in; everything else is as it was.'
})
export type ConfigurationStatus = Static<typeof ConfigurationStatus>

export const Readiness = Strict({
  ready: Type.Boolean({ description: 'Every domain is available, and so are its leases.' }),
  domains: Type.Array(Strict({
    domain: DomainId,
    state: DomainState,
    code: Type.Optional(Type.String({ description: 'Why it is not available: see DomainStatus.' })),
    detail: Type.Optional(Type.String({ description: 'Why it is not available.' })),
    leases: Type.Optional(LeaseStatus)
  })),
  gluster: Strict({
    available: Type.Boolean({ description: 'Its daemon on this host answers.' }),
    code: Type.Optional(Type.String()),
    detail: Type.Optional(Type.String({ description: 'Why it is not available.' }))
  }),
  configuration: Type.Optional(Ref(ConfigurationStatus))
}, { $id: 'Readiness', description: 'What the agent can work on.' })
export type Readiness = Static<typeof Readiness>
