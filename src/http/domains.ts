import { Type } from '@sinclair/typebox'
import { DomainStatus } from '../api/domain.ts'
import { BrokenImage, Copy, ImageEntry, ImageStatus } from '../api/image.ts'
import { Format } from '../api/format.ts'
import { DomainId, ImageName, TaskId } from '../api/names.ts'
import { Ref, Strict } from '../api/schema.ts'
import type { Domains } from '../storage/domains.ts'
import { json, problems } from './responses.ts'
import type { App } from './types.ts'

const ByDomain = Strict({ domain: DomainId })

const readProblems = problems({
  400: 'The request is malformed.',
  404: 'No such domain or image.',
  422: 'The name is not an image, or its record cannot be used.',
  500: 'The storage failed.',
  503: 'The domain is not available.',
  504: 'The storage does not answer.'
})

/** Reads of domains and images. They tell what is on the storage, whoever put it there. */
export function domainRoutes (app: App, { domains }: { domains: Domains }): void {
  app.get('/domains', {
    config: { scope: 'read' },
    schema: {
      operationId: 'listDomains',
      tags: ['domains'],
      summary: 'List the storage domains',
      response: { 200: json('The domains as this host sees them.', Strict({ items: Type.Array(Ref(DomainStatus)) })), ...problems({}) }
    }
  }, async () => ({ items: await Promise.all(domains.all().map(async domain => await domain.status())) }))

  app.get('/domains/:domain', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getDomain',
      tags: ['domains'],
      summary: 'Read a storage domain',
      params: ByDomain,
      response: { 200: json('The domain as this host sees it.', Ref(DomainStatus)), ...problems({ 400: 'The request is malformed.', 404: 'No such domain.' }) }
    }
  }, async request => await domains.get(request.params.domain).status())

  app.get('/domains/:domain/images', {
    config: { scope: 'read' },
    schema: {
      operationId: 'listImages',
      tags: ['domains'],
      summary: 'List the images of a domain',
      description: 'By name, page by page, without opening any.',
      params: ByDomain,
      querystring: Strict({
        limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
        cursor: Type.Optional(Type.String({ maxLength: 255, description: '`next` of the page before.' }))
      }),
      response: {
        200: json('A page of images.', Strict({ items: Type.Array(Ref(ImageEntry)), next: Type.Optional(Type.String({ description: 'The cursor of the next page; absent on the last.' })) })),
        ...readProblems
      }
    }
  }, async request => {
    const { limit = 100, cursor } = request.query
    // one more than asked for tells whether there is another page
    const images = await domains.get(request.params.domain).images(cursor ?? '', limit + 1)
    const items = images.slice(0, limit)
    const last = items.at(-1)
    return { items, ...(images.length > limit && last !== undefined && { next: last.image }) }
  })

  app.get('/domains/:domain/images/:image', {
    config: { scope: 'read' },
    schema: {
      operationId: 'getImageStatus',
      tags: ['domains'],
      summary: 'Read the status of an image',
      description: 'From the storage alone, the same from every host; at most a second old.',
      params: Strict({ domain: DomainId, image: ImageName }),
      querystring: Strict({ format: Type.Optional(Format) }),
      response: { 200: json('The image.', Ref(ImageStatus)), ...readProblems }
    }
  }, async request => await domains.get(request.params.domain).image(request.params.image, request.query.format))

  app.get('/domains/:domain/copies', {
    config: { scope: 'read' },
    schema: {
      operationId: 'listCopies',
      tags: ['domains'],
      summary: 'Read the copy records of a domain',
      description: 'Also those of complete copies, from whichever host: the durable answer to "did it finish?".',
      params: ByDomain,
      querystring: Strict({ taskId: Type.Optional(TaskId) }),
      response: { 200: json('The copies.', Strict({ items: Type.Array(Ref(Copy)) })), ...readProblems }
    }
  }, async request => {
    const { taskId } = request.query
    const copies = await domains.get(request.params.domain).copies()
    return { items: taskId === undefined ? copies : copies.filter(({ copy }) => copy.taskId === taskId) }
  })

  app.get('/domains/:domain/fixes', {
    config: { scope: 'read' },
    schema: {
      operationId: 'listFixes',
      tags: ['domains'],
      summary: 'Read what is broken in a domain, and what would help',
      description: 'Each fix carries the body of the task that does it.',
      params: ByDomain,
      response: { 200: json('What needs attention; empty if nothing does.', Strict({ items: Type.Array(Ref(BrokenImage)) })), ...readProblems }
    }
  }, async request => ({ items: await domains.get(request.params.domain).fixes() }))
}
