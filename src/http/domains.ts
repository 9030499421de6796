import { Type, type TSchema } from '@sinclair/typebox'
import { DomainStatus } from '../api/domain.ts'
import { BrokenImage, Copy, ImageEntry, ImageStatus } from '../api/image.ts'
import { Format } from '../api/format.ts'
import { DomainId, ImageName, TaskId } from '../api/names.ts'
import { Ref, Strict, Words } from '../api/schema.ts'
import type { Domains } from '../storage/domains.ts'
import { keyOf } from '../storage/record.ts'
import { json, problems } from './responses.ts'
import type { App } from './types.ts'

const ByDomain = Strict({ domain: DomainId })

const paging = {
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 100 })),
  cursor: Type.Optional(Type.String({ maxLength: 255, description: '`next` of the page before.' }))
}

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
      querystring: Strict(paging),
      response: { 200: pageOf('A page of images.', ImageEntry), ...readProblems }
    }
  }, async request => {
    const { limit = 100, cursor: after = '' } = request.query
    return page(await domains.get(request.params.domain).images(after, limit + 1), limit, ({ image }) => image)
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
      description: 'By name, page by page; also those of complete copies, from whichever host: the durable answer to "did it finish?".',
      params: ByDomain,
      querystring: Strict({
        ...paging,
        taskId: Type.Optional(TaskId),
        state: Type.Optional(Words(['copying', 'interrupted', 'done', 'illegal'], { description: 'Only copies in this state.' }))
      }),
      response: { 200: pageOf('A page of copies.', Copy), ...readProblems }
    }
  }, async request => {
    const { limit = 100, cursor: after = '', taskId, state } = request.query
    return page(await domains.get(request.params.domain).copies({ after, limit: limit + 1, taskId, state }), limit, keyOf)
  })

  app.get('/domains/:domain/fixes', {
    config: { scope: 'read' },
    schema: {
      operationId: 'listFixes',
      tags: ['domains'],
      summary: 'Read what is broken in a domain, and what would help',
      description: 'By name, page by page. Each fix carries the body of the task that does it.',
      params: ByDomain,
      querystring: Strict(paging),
      response: { 200: pageOf('What needs attention; empty if nothing does.', BrokenImage), ...readProblems }
    }
  }, async request => {
    const { limit = 100, cursor: after = '' } = request.query
    return page(await domains.get(request.params.domain).fixes({ after, limit: limit + 1 }), limit, keyOf)
  })
}

function pageOf<T extends TSchema> (description: string, item: T) {
  return json(description, Strict({ items: Type.Array(Ref(item)), next: Type.Optional(Type.String({ description: 'The cursor of the next page; absent on the last.' })) }))
}

/** A page of what was found. One more than fits in it tells that there is another page. */
function page<T> (found: readonly T[], limit: number, key: (item: T) => string): { items: T[], next?: string } {
  const items = found.slice(0, limit)
  const last = items.at(-1)
  return { items, ...(found.length > limit && last !== undefined && { next: key(last) }) }
}
