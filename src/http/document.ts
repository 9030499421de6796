import { Type } from '@sinclair/typebox'
import swagger from '@fastify/swagger'
import { cookieName } from './access.ts'
import { referenceRoutes } from './reference.ts'
import { json, problems } from './responses.ts'
import type { App } from './types.ts'

interface Schema {
  discriminator?: { propertyName: string, mapping?: Record<string, string> }
  oneOf?: Array<{ $ref?: string }>
  properties?: Record<string, { const?: unknown, enum?: readonly unknown[], default?: unknown, description?: string }>
  [keyword: string]: unknown
}

/**
 * The OpenAPI document, made from the routes' own schemas, and the reference at /docs that shows it. To be registered
 * before the routes.
 */
export function documentRoutes (app: App, { version }: { version: string }): void {
  app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'vdsm-tasks',
        version,
        summary: 'Copies disk images and starts Gluster rebalances on a virtualization host.',
        description: 'Callers name their tasks: `PUT /tasks/{id}` creates one, or claims the one that has the id. A task is accepted when its object is durable on the storage; from then on any host reports it, and any host can continue it. Tasks are forgotten by a restart of the agent (a new `Agent-Instance`), objects are not.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' }
      },
      servers: [{ url: '/', description: 'This agent.' }],
      components: {
        securitySchemes: {
          token: { type: 'http', scheme: 'bearer', description: 'A token, as `vdsm-tasks token create` makes it. Its scope is `read`, `operate` or `admin`.' },
          certificate: { type: 'mutualTLS', description: 'A client certificate for one of the names that the configuration allows.' } as never,
          session: { type: 'apiKey', in: 'cookie', name: cookieName, description: 'The cookie that a browser gets at /login.' }
        }
      },
      tags: [
        { name: 'tasks', description: 'What the agent was told to do. In memory only.' },
        { name: 'domains', description: 'What is on the storage, whoever put it there.' },
        { name: 'gluster', description: 'Volumes and operations of the Gluster cluster that the host belongs to.' },
        { name: 'events', description: 'What happens, as it happens.' },
        { name: 'agent', description: 'The agent itself.' }
      ]
    },
    // roles, as OpenAPI 3.1 allows for every scheme; the empty one: over loopback and unix sockets an agent may ask nobody
    transform: ({ schema, url, route }) => {
      const scope = route.config?.scope
      return { url, schema: { ...schema, security: scope === undefined || scope === 'open' ? [] : [{}, { token: [scope] }, { certificate: [scope] }, { session: [scope] }] } }
    },
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => typeof json.$id === 'string' ? json.$id : `schema-${index}` },
    transformObject: documentObject => 'openapiObject' in documentObject ? forGenerators(documentObject.openapiObject) : documentObject.swaggerObject
  })
  app.register(async (routes: App) => {
    routes.get('/openapi.json', {
      config: { scope: 'read' },
      schema: {
        operationId: 'getDocument',
        tags: ['agent'],
        summary: 'Read the OpenAPI document',
        response: { 200: json('This document.', Type.Object({}, { additionalProperties: true })), ...problems({}) }
      }
    }, async () => app.swagger())
  })
  app.register(async (routes: App) => { referenceRoutes(routes) })
}

/**
 * What generators of clients need and our own validation does not: the mapping of a discriminator, without which they
 * take the name of the schema for the value; and no defaults in bodies, which they take for members that the caller
 * must send.
 */
function forGenerators<T extends { components?: { schemas?: object } }> (document: T): T {
  const schemas = (document.components?.schemas ?? {}) as Record<string, Schema>
  for (const { discriminator, oneOf, properties } of Object.values(schemas)) {
    for (const property of Object.values(properties ?? {})) {
      if (property.default === undefined) continue
      property.description = `${property.description ?? ''} Default: ${JSON.stringify(property.default)}.`.trimStart()
      delete property.default
    }
    if (discriminator === undefined) continue
    discriminator.mapping = Object.fromEntries((oneOf ?? []).flatMap(({ $ref }) => {
      const tag = schemas[$ref?.split('/').at(-1) ?? '']?.properties?.[discriminator.propertyName]
      const value = tag?.const ?? tag?.enum?.[0]
      return typeof value === 'string' && $ref !== undefined ? [[value, $ref]] : []
    }))
  }
  return document
}
