import { Ajv, type AnySchema, type ErrorObject, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'
import type { FastifySchema, FastifySchemaCompiler } from 'fastify'
import type { FastifySchemaValidationError, FastifyValidationResult } from 'fastify/types/schema.d.ts'
import { AppError } from '../errors.ts'

/**
 * Fastify's own Ajv settings would corrupt what callers send: null becomes 0, unknown keys vanish, the first branch of
 * a union takes away what the second needs. Bodies and headers are therefore checked as they are; only queries and
 * parameters, which are all text, are converted.
 */
export function makeValidator (sharedSchemas: () => Record<string, unknown>): FastifySchemaCompiler<FastifySchema> {
  const build = (coerceTypes: false | 'array') => {
    // the schemas themselves are not checked, which would compile the schema of schemas first: a test does it
    const ajv = new Ajv({ removeAdditional: false, useDefaults: true, discriminator: true, strict: false, coerceTypes, validateSchema: false })
    addFormats.default(ajv)
    for (const schema of Object.values(sharedSchemas())) ajv.addSchema(schema as AnySchema)
    return ajv
  }
  // made with the first route, when every shared schema is known
  let exact: Ajv | undefined
  let textual: Ajv | undefined
  return ({ schema, httpPart }) => {
    if (httpPart === 'headers' && isAnyText(schema)) return always
    const compile = () => httpPart === 'querystring' || httpPart === 'params' ? (textual ??= build('array')).compile(schema) : (exact ??= build(false)).compile(schema)
    return whenNeeded(compile)
  }
}

const always = () => true

/** Whether a schema of headers allows whatever comes, which is text: then there is nothing to check for each request. */
function isAnyText (schema: object): boolean {
  const { type: _, properties = {}, ...others } = schema as { type?: string, properties?: Record<string, object> }
  const says = new Set(['type', 'description', 'examples'])
  return Object.keys(others).length === 0 && Object.values(properties).every(property => 'type' in property && property.type === 'string' && Object.keys(property).every(name => says.has(name)))
}

/** Compiling is a third of what the agent's start takes, and most routes are not asked for in its first second. */
function whenNeeded (compile: () => ValidateFunction): FastifyValidationResult {
  let compiled: ValidateFunction | undefined
  const validate: FastifyValidationResult = (data: unknown) => {
    compiled ??= compile()
    if (compiled(data)) return true
    validate.errors = compiled.errors as FastifySchemaValidationError[] | null ?? null
    return false
  }
  return validate
}

/** Puts the first thing that is wrong with a request into words. */
export function validationError (errors: readonly ErrorObject[] | undefined, part: string | undefined): AppError {
  const [error] = errors ?? []
  if (error === undefined) return new AppError('bad-request', `The ${part ?? 'request'} is not as documented.`)
  const at = `${part ?? 'request'}${error.instancePath.replaceAll('/', '.')}`
  return new AppError('bad-request', `${at} ${words(error)}. GET /openapi.json tells what is allowed.`, { members: { pointer: error.instancePath } })
}

function words ({ keyword, params, message }: ErrorObject): string {
  switch (keyword) {
    case 'additionalProperties': return `has an unknown field "${params['additionalProperty']}"`
    case 'enum': return `must be one of ${(params['allowedValues'] as unknown[]).join(', ')}`
    case 'discriminator': return params['error'] === 'tag' ? 'needs a "kind", a string' : `has an unknown kind "${String(params['tagValue'])}"`
    default: return message ?? 'is wrong'
  }
}
