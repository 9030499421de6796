import { Type } from '@sinclair/typebox'
import { DomainStatus } from '../api/domain.ts'
import { BrokenImage, Copy, ImageEntry, ImageStatus } from '../api/image.ts'
import { Format } from '../api/format.ts'
import { DomainId, ImageName, TaskId } from '../api/names.ts'
import { Problem } from '../api/problem.ts'
import { Ref, Strict } from '../api/schema.ts'
import type { Domains } from '../storage/domains.ts'
import type { App } from './types.ts'

const ByDomain = Strict({ domain: DomainId })

const readProblems = Object.fromEntries(Object.entries({
  400: 'The request is malformed.',
  403: 'Host or Origin are not allowed.',
  404: 'No such domain or image.',
  422: 'The name is not an image.',
  500: 'The storage failed.',
  503: 'The domain is not available.',
  504: 'The storage does not answer.'
}).map(([status, description]) => [status, { description, content: { 'application/problem+json': { schema: Ref(Problem) } } }]))

/** Reads of domains and images. They tell what is on the storage, whoever put it there. */
export function domainRoutes (app: App, { domains }: { domains: Domains }): void {
  app.get('/domains', {
    schema: {
      operationId: 'listDomains',
      tags: ['domains'],
      summary: 'List the storage domains',
      response: { 200: { description: 'The domains as this host sees them.', content: { 'application/json': { schema: Strict({ items: Type.Array(Ref(DomainStatus)) }) } } }, 403: readProblems[403] }
    }
  }, async () => ({ items: await Promise.all(domains.all().map(async domain => await domain.status())) }))

  app.get('/domains/:domain', {
    schema: {
      operationId: 'getDomain',
      tags: ['domains'],
      summary: 'Read a storage domain',
      params: ByDomain,
      response: { 200: { description: 'The domain as this host sees it.', content: { 'application/json': { schema: Ref(DomainStatus) } } }, 400: readProblems[400], 403: readProblems[403], 404: readProblems[404] }
    }
  }, async request => await domains.get(request.params.domain).status())

  app.get('/domains/:domain/images', {
    schema: {
      operationId: 'listImages',
      tags: ['domains'],
      summary: 'List the images of a domain',
      description: 'By name, page by page, without opening any.',
      params: ByDomain,
      querystring: Strict({
        limit: Type.Integer({ minimum: 1, maximum: 1000, default: 100 }),
        cursor: Type.Optional(Type.String({ maxLength: 255, description: '`next` of the page before.' }))
      }),
      response: {
        200: { description: 'A page of images.', content: { 'application/json': { schema: Strict({ items: Type.Array(Ref(ImageEntry)), next: Type.Optional(Type.String({ description: 'The cursor of the next page; absent on the last.' })) }) } } },
        ...readProblems
      }
    }
  }, async request => {
    const { limit, cursor } = request.query
    // one more than asked for tells whether there is another page
    const images = await domains.get(request.params.domain).images(cursor ?? '', limit + 1)
    const items = images.slice(0, limit)
    const last = items.at(-1)
    return { items, ...(images.length > limit && last !== undefined && { next: last.image }) }
  })

  app.get('/domains/:domain/images/:image', {
    schema: {
      operationId: 'getImageStatus',
      tags: ['domains'],
      summary: 'Read the status of an image',
      description: 'From the storage alone, the same from every host; at most a second old.',
      params: Strict({ domain: DomainId, image: ImageName }),
      querystring: Strict({ format: Type.Optional(Format) }),
      response: { 200: { description: 'The image.', content: { 'application/json': { schema: Ref(ImageStatus) } } }, ...readProblems }
    }
  }, async request => await domains.get(request.params.domain).image(request.params.image, request.query.format))

  app.get('/domains/:domain/copies', {
    schema: {
      operationId: 'listCopies',
      tags: ['domains'],
      summary: 'Read the copy records of a domain',
      description: 'Also those of complete copies, from whichever host: the durable answer to "did it finish?".',
      params: ByDomain,
      querystring: Strict({ taskId: Type.Optional(TaskId) }),
      response: { 200: { description: 'The copies.', content: { 'application/json': { schema: Strict({ items: Type.Array(Ref(Copy)) }) } } }, ...readProblems }
    }
  }, async request => {
    const { taskId } = request.query
    const copies = await domains.get(request.params.domain).copies()
    return { items: taskId === undefined ? copies : copies.filter(({ copy }) => copy.taskId === taskId) }
  })

  app.get('/domains/:domain/fixes', {
    schema: {
      operationId: 'listFixes',
      tags: ['domains'],
      summary: 'Read what is broken in a domain, and what would help',
      description: 'Each fix carries the body of the task that does it.',
      params: ByDomain,
      response: { 200: { description: 'What needs attention; empty if nothing does.', content: { 'application/json': { schema: Strict({ items: Type.Array(Ref(BrokenImage)) }) } } }, ...readProblems }
    }
  }, async request => ({ items: await domains.get(request.params.domain).fixes() }))
}
