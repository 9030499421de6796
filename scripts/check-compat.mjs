// Compares openapi/openapi.json with openapi/released.json, the document of the last release, and fails on a change that would break a
// client of that release, unless the version makes room for it: another major part, or for 0.x another minor part (semver.org, 4).
// node scripts/check-compat.mjs [RELEASED CURRENT]
//
// A release moves released.json: in the commit that releases a version, once info.version is right, `cp openapi/openapi.json
// openapi/released.json`. Never before, however many changes are on their way: they are all compared with what callers have.
//
// What counts as breaking. What callers send must not get narrower, what they read must not get wider, and nothing that has a name may
// vanish. Callers ignore members and statuses that they do not know, so both may be added. An `enum` is a closed set: a value added to
// one that callers read is breaking, because somebody decides by it and has no branch for it. Sets that are meant to grow are plain
// strings (`Task.kind`, `Problem.code`) or unions with a discriminator, to which branches may be added. Bounds and patterns of what
// callers read may change: nobody decides by them. operationIds and names of components are names in generated clients.
//
// Written here because nothing fits: api-smart-diff 1.0 trips over unions with a discriminator and tells a change once for each use of a
// component, openapi-schema-diff 0.0.1 knows no difference between sent and read, openapi-changes is a program in Go.
import { readFileSync, realpathSync } from 'node:fs'
import { join } from 'node:path'
import { isDeepStrictEqual } from 'node:util'
import { root } from './step.mjs'

const methods = ['get', 'put', 'post', 'delete', 'options', 'head', 'patch', 'trace', 'query']
const anything = {}
const anyType = ['null', 'boolean', 'number', 'string', 'array', 'object']

/** Lower and upper bounds, with what holds when they are absent. */
const lowerBounds = { minimum: -Infinity, exclusiveMinimum: -Infinity, minLength: 0, minItems: 0, minProperties: 0 }
const upperBounds = { maximum: Infinity, exclusiveMaximum: Infinity, maxLength: Infinity, maxItems: Infinity, maxProperties: Infinity }

/** Everything below has rules for these, or they only tell people something. Any other keyword that changes is breaking, to be safe. */
const judged = new Set([
  'type', 'enum', 'const', 'format', 'pattern', 'multipleOf', 'uniqueItems', 'default', ...Object.keys(lowerBounds), ...Object.keys(upperBounds),
  'properties', 'required', 'additionalProperties', 'items', 'oneOf', 'anyOf', 'discriminator',
  '$ref', 'title', 'description', 'summary', 'examples', 'example', 'deprecated', 'readOnly', 'writeOnly', '$comment', 'externalDocs'
])

/** Every breaking change from one OpenAPI 3.1 document to the next: a line each, which begins with its place. */
export function breakingChanges (released, current) {
  return [...new Set(new Comparison(released, current).document())]
}

/** Whether a version may break clients of an earlier one. */
export function mayBreak (released, current) {
  const [major, minor] = partsOf(released)
  const [newMajor, newMinor] = partsOf(current)
  return newMajor > major || (newMajor === 0 && major === 0 && newMinor > minor)
}

function partsOf (version) {
  const parts = /^(\d+)\.(\d+)\./.exec(version)
  if (parts === null) throw new Error(`info.version "${version}" is no semantic version`)
  return parts.slice(1).map(Number)
}

/** A schema, found through its references, and the name of the component that it is, if it is one. */
class Side {
  #document
  // the same object each time: what was compared once is known by identity, which is also what ends a cycle of references
  #found = new Map()
  #branches = new Map()

  constructor (document) {
    this.#document = document
  }

  find (node = anything) {
    if (node === true) return this.find(anything)
    if (node === false) return { schema: { not: {} } }
    if (!this.#found.has(node)) this.#found.set(node, this.#follow(node))
    return this.#found.get(node)
  }

  #follow (node) {
    const { $ref, ...siblings } = node
    if ($ref === undefined) return { schema: node }
    const path = $ref.replace(/^#\//, '').split('/').map(part => decodeURIComponent(part).replaceAll('~1', '/').replaceAll('~0', '~'))
    const target = path.reduce((value, key) => value?.[key], this.#document)
    if (target === undefined) throw new Error(`${$ref} leads nowhere`)
    const { schema, name = path.at(-1) } = this.find(target)
    return { schema: Object.keys(siblings).length === 0 ? schema : { ...schema, ...siblings }, name }
  }

  /** The alternatives of a union, each with what the union says beside them; a schema that is none is its own only alternative. */
  branches (found) {
    const { oneOf, anyOf, discriminator: _, ...beside } = found.schema
    const nodes = oneOf ?? anyOf
    if (nodes === undefined) return [found]
    if (!this.#branches.has(found.schema)) {
      this.#branches.set(found.schema, nodes.flatMap(node => {
        const { schema, name } = this.find(node)
        return this.branches({ schema: merge(beside, schema), name })
      }))
    }
    return this.#branches.get(found.schema)
  }
}

function merge (one, other) {
  return {
    ...one,
    ...other,
    ...(one.properties && { properties: { ...one.properties, ...other.properties } }),
    ...(one.required && { required: [...new Set([...one.required, ...other.required ?? []])] })
  }
}

class Comparison {
  #released
  #current
  #old
  #now
  /** What was found between two schemas, by the old one, the new one and the direction. */
  #known = new Map()

  constructor (released, current) {
    this.#released = released
    this.#current = current
    this.#old = new Side(released)
    this.#now = new Side(current)
  }

  document () {
    const components = Object.keys(this.#released.components?.schemas ?? {})
      .filter(name => this.#current.components?.schemas?.[name] === undefined)
      .map(name => `${name}: the component is removed`)
    const paths = Object.entries(this.#released.paths).flatMap(([path, item]) => {
      const now = this.#current.paths[path]
      if (now === undefined) return [`${path}: removed`]
      return methods.filter(method => method in item).flatMap(method => {
        const place = `${method.toUpperCase()} ${path}`
        return method in now ? this.#operation(place, withShared(item, method), withShared(now, method)) : [`${place}: removed`]
      })
    })
    return [...paths, ...components]
  }

  #operation (place, old, now) {
    return [
      ...(old.operationId === now.operationId ? [] : [`${place}: operationId is now ${now.operationId}, it was ${old.operationId}`]),
      ...this.#security(place, old, now),
      ...this.#parameters(place, old, now),
      ...this.#requestBody(`${place} body`, old.requestBody, now.requestBody),
      ...Object.entries(old.responses).flatMap(([status, response]) => this.#response(`${place} ${status}`, response, now.responses[status]))
    ]
  }

  /** Whatever was enough to be let in must be enough now. */
  #security (place, old, now) {
    const waysOf = (operation, document) => {
      const ways = operation.security ?? document.security ?? []
      return ways.length === 0 ? [{}] : ways
    }
    const waysNow = waysOf(now, this.#current)
    const isEnough = way => waysNow.some(asked => Object.entries(asked).every(([scheme, scopes]) => scheme in way && scopes.every(scope => way[scheme].includes(scope))))
    return waysOf(old, this.#released).filter(way => !isEnough(way))
      .map(way => `${place}: ${Object.keys(way).join(' with ') || 'a request without credentials'} is no longer let in`)
  }

  #parameters (place, old, now) {
    const byKey = (side, { parameters = [] }) => new Map(parameters.map(node => side.find(node).schema)
      .map(parameter => [`${parameter.in} ${parameter.in === 'header' ? parameter.name.toLowerCase() : parameter.name}`, parameter]))
    const before = byKey(this.#old, old)
    const after = byKey(this.#now, now)
    const added = [...after].filter(([key, { required }]) => required === true && !before.has(key)).map(([key]) => `${place} ${key}: new, and required`)
    return [...added, ...[...before].flatMap(([key, parameter]) => {
      const at = `${place} ${key}`
      const counterpart = after.get(key)
      if (counterpart === undefined) return [`${at}: removed`]
      const required = counterpart.required === true && parameter.required !== true ? [`${at}: now required`] : []
      return [...required, ...this.#schemas(at, parameter.schema, counterpart.schema, 'sent')]
    })]
  }

  #requestBody (place, oldNode, nowNode) {
    const old = oldNode && this.#old.find(oldNode).schema
    const now = nowNode && this.#now.find(nowNode).schema
    if (now === undefined) return old === undefined ? [] : [`${place}: removed`]
    const required = now.required === true && old?.required !== true ? [`${place}: now required`] : []
    return [...required, ...this.#content(place, old?.content, now.content, 'sent')]
  }

  #response (place, oldNode, nowNode) {
    if (nowNode === undefined) return [`${place}: removed`]
    const old = this.#old.find(oldNode).schema
    const now = this.#now.find(nowNode).schema
    const headers = Object.entries(old.headers ?? {}).flatMap(([name, node]) => {
      const at = `${place} header ${name}`
      if (now.headers?.[name] === undefined) return [`${at}: removed`]
      const [header, counterpart] = [this.#old.find(node).schema, this.#now.find(now.headers[name]).schema]
      const absent = header.required === true && counterpart.required !== true ? [`${at}: may now be absent`] : []
      return [...absent, ...this.#schemas(at, header.schema, counterpart.schema, 'read')]
    })
    return [...headers, ...this.#content(place, old.content, now.content, 'read')]
  }

  #content (place, old = {}, now = {}, direction) {
    const types = Object.keys(old)
    return types.flatMap(type => {
      if (now[type] === undefined) return [`${place}: no longer ${type}`]
      return this.#schemas(types.length === 1 ? place : `${place} ${type}`, old[type].schema, now[type].schema, direction)
    })
  }

  /** What breaks between two schemas of something that callers have `sent` or `read`. */
  #schemas (place, oldNode, nowNode, direction) {
    return this.#found(place, this.#old.find(oldNode), this.#now.find(nowNode), direction)
  }

  #found (place, old, now, direction) {
    const known = [old.schema, now.schema].reduce((map, schema) => {
      if (!map.has(schema)) map.set(schema, new Map())
      return map.get(schema)
    }, this.#known)
    if (!known.has(direction)) {
      known.set(direction, [])
      const at = old.name !== undefined && old.name === now.name ? old.name : place
      const isUnion = ({ schema }) => (schema.oneOf ?? schema.anyOf) !== undefined
      known.set(direction, isUnion(old) || isUnion(now) ? this.#unions(at, old, now, direction) : this.#plain(at, old.schema, now.schema, direction))
    }
    return known.get(direction)
  }

  #unions (place, old, now, direction) {
    const before = this.#old.branches(old)
    const after = this.#now.branches(now)
    const tag = old.schema.discriminator?.propertyName
    if (tag !== undefined && tag === now.schema.discriminator?.propertyName) {
      const tagged = (side, branches) => new Map(branches.map(branch => [JSON.stringify(valuesOf(side.find(branch.schema.properties?.[tag]).schema)), branch]))
      const byTag = tagged(this.#now, after)
      return [...tagged(this.#old, before)].flatMap(([value, branch]) => {
        const counterpart = byTag.get(value)
        return counterpart === undefined ? [`${place}: no longer has ${tag} ${value?.slice(1, -1)}`] : this.#found(place, branch, counterpart, direction)
      })
    }
    // each of the narrower side needs one of the wider side that it fits; if none does, the one that it resembles says why
    const [narrow, wide] = direction === 'sent' ? [before, after] : [after, before]
    return narrow.flatMap(one => {
      const compare = other => direction === 'sent' ? this.#found(place, one, other, direction) : this.#found(place, other, one, direction)
      if (wide.some(other => compare(other).length === 0)) return []
      const alike = wide.find(({ name }) => name !== undefined && name === one.name) ?? wide.find(({ schema }) => isDeepStrictEqual(typesOf(schema), typesOf(one.schema)))
      return alike === undefined ? [outside(place, direction, [one.name ?? typesOf(one.schema).join(', ')])] : compare(alike)
    })
  }

  #plain (place, old, now, direction) {
    const [narrow, wide] = direction === 'sent' ? [old, now] : [now, old]
    const types = typesOf(narrow).filter(type => !typesOf(wide).includes(type) && !(type === 'integer' && typesOf(wide).includes('number')))
    if (types.length > 0) return [outside(place, direction, types)]
    return [
      ...values(place, old, now, direction),
      ...(wide.format === undefined || wide.format === narrow.format ? [] : [`${place}: format is now ${now.format ?? 'any'}, it was ${old.format ?? 'any'}`]),
      ...(direction === 'sent' ? limits(place, old, now) : []),
      ...this.#members(place, old, now, direction),
      ...(old.items === now.items ? [] : this.#schemas(`${place}[]`, old.items, now.items, direction)),
      ...[...new Set([...Object.keys(old), ...Object.keys(now)])]
        .filter(key => !judged.has(key) && !key.startsWith('x-'))
        // a reference in it may lead to something that has changed
        .filter(key => !isDeepStrictEqual(old[key], now[key]) || JSON.stringify(now[key]).includes('"$ref"'))
        .map(key => `${place}: changes or contains "${key}", of which scripts/check-compat.mjs knows nothing`)
    ]
  }

  #members (place, old, now, direction) {
    const before = old.properties ?? {}
    const after = now.properties ?? {}
    const asked = (now.required ?? []).filter(name => !old.required?.includes(name))
    const optional = (old.required ?? []).filter(name => !now.required?.includes(name) && (Object.hasOwn(after, name) || !Object.hasOwn(before, name)))
    return [
      ...Object.entries(before).flatMap(([name, schema]) => {
        const at = `${place}.${name}`
        return Object.hasOwn(after, name) ? this.#schemas(at, schema, after[name], direction) : [`${at}: removed`]
      }),
      ...(direction === 'sent'
        ? asked.map(name => `${place}.${name}: ${Object.hasOwn(before, name) ? 'now required' : 'new, and required'}`)
        : optional.map(name => `${place}.${name}: may now be absent`)),
      ...this.#otherMembers(place, old.additionalProperties ?? true, now.additionalProperties ?? true, direction)
    ]
  }

  /** Members without a name. Callers ignore unknown ones, so that only a map of them, which has a schema, promises anything to its readers. */
  #otherMembers (place, old, now, direction) {
    const at = `${place}.*`
    if (old === false || (direction === 'read' && old === true)) return []
    if (now === false) return [`${at}: ${direction === 'sent' ? 'unknown members are no longer taken' : 'removed'}`]
    return this.#schemas(at, old, now, direction)
  }
}

/** An operation with what its path says for all of them. */
function withShared (item, method) {
  return { ...item[method], parameters: [...item.parameters ?? [], ...item[method].parameters ?? []] }
}

function typesOf (schema) {
  const { type = valuesOf(schema)?.map(typeOf) ?? anyType } = schema
  return [...new Set([type].flat())]
}

function typeOf (value) {
  if (value === null) return 'null'
  return Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value
}

function valuesOf (schema) {
  return 'const' in schema ? [schema.const] : schema.enum
}

function outside (place, direction, what) {
  return `${place}: ${direction === 'sent' ? 'no longer takes' : 'may now be'} ${what.join(', ')}`
}

function values (place, old, now, direction) {
  const before = valuesOf(old)?.map(value => JSON.stringify(value))
  const after = valuesOf(now)?.map(value => JSON.stringify(value))
  if (before === undefined) return after !== undefined && direction === 'sent' ? [`${place}: now takes only ${after.join(', ')}`] : []
  if (after === undefined) return direction === 'read' ? [`${place}: may now be something else than ${before.join(', ')}`] : []
  const removed = before.filter(value => !after.includes(value))
  const added = direction === 'read' ? after.filter(value => !before.includes(value)) : []
  return [
    ...(removed.length > 0 ? [`${place}: no longer has ${removed.join(', ')}`] : []),
    ...(added.length > 0 ? [outside(place, direction, added)] : [])
  ]
}

/** What callers may send, beyond its type and values. */
function limits (place, old, now) {
  const changed = (key, was = 'absent') => `${place}: ${key} is now ${now[key]}, it was ${was}`
  const tighter = [
    ...Object.entries(lowerBounds).filter(([key, none]) => (now[key] ?? none) > (old[key] ?? none)),
    ...Object.entries(upperBounds).filter(([key, none]) => (now[key] ?? none) < (old[key] ?? none))
  ].map(([key]) => changed(key, old[key]))
  return [
    ...tighter,
    // whether one pattern takes all that another takes is more than can be told here
    ...(now.pattern !== undefined && now.pattern !== old.pattern ? [changed('pattern', old.pattern)] : []),
    ...(now.multipleOf !== undefined && !((old.multipleOf ?? NaN) % now.multipleOf === 0) ? [changed('multipleOf', old.multipleOf)] : []),
    ...(now.uniqueItems === true && old.uniqueItems !== true ? [changed('uniqueItems', old.uniqueItems)] : []),
    // the same request would mean something else
    ...(old.default !== undefined && !isDeepStrictEqual(old.default, now.default) ? [changed('default', JSON.stringify(old.default))] : [])
  ]
}

if (realpathSync(process.argv[1]) === import.meta.filename) {
  const [released, current] = [process.argv[2] ?? join(root, 'openapi/released.json'), process.argv[3] ?? join(root, 'openapi/openapi.json')]
    .map(file => JSON.parse(readFileSync(file, 'utf8')))
  const changes = breakingChanges(released, current)
  const allowed = mayBreak(released.info.version, current.info.version)
  for (const change of changes) console.log(change)
  const verdict = changes.length === 0
    ? ''
    : allowed ? `, which ${current.info.version} may have` : `, and the version is ${current.info.version}: undo them, or make room for them in the version (package.json)`
  console.log(`compatibility: ${changes.length || 'no'} breaking change${changes.length === 1 ? '' : 's'} since ${released.info.version}${verdict}`)
  process.exitCode = changes.length > 0 && !allowed ? 1 : 0
}
