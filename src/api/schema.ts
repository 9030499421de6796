import { FormatRegistry, Kind, Type, TypeRegistry, type TSchema, type Static, type SchemaOptions, type TUnsafe } from '@sinclair/typebox'

// lets TypeBox's own validators check these, too
TypeRegistry.Set<{ enum: readonly unknown[] }>('Words', (schema, value) => schema.enum.includes(value))
/** How a `Time` is written, for validators that have to be told. */
export const timePattern = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/
// they take no value for one of a format that they do not know
FormatRegistry.Set('date-time', text => timePattern.test(text))

/** An object that refuses unknown fields: a misspelled option is an error, never silently dropped. */
export function Strict<T extends Record<string, TSchema>> (properties: T, options: SchemaOptions = {}) {
  return Type.Object(properties, { additionalProperties: false, ...options })
}

/** One of the given words. A plain `enum`, which Ajv, documents and generated clients all understand. */
export function Words<const T extends readonly string[]> (words: T, options: SchemaOptions = {}): TUnsafe<T[number]> {
  return Type.Unsafe<T[number]>({ [Kind]: 'Words', type: 'string', enum: words, ...options })
}

/** A reference to a schema that has an `$id`: the document names it once, and so do generated clients. */
export function Ref<T extends TSchema> (schema: T, options: SchemaOptions = {}): TUnsafe<Static<T>> {
  if (schema.$id === undefined) throw new Error('only a schema with an $id can be referred to')
  return Type.Unsafe<Static<T>>({ $ref: `${schema.$id}#`, ...options })
}

/** A union told apart by the value of one member. Ajv's `discriminator` needs `oneOf`; TypeBox would emit `anyOf`. */
export function Discriminated<const T extends readonly TSchema[]> (propertyName: string, branches: T, options: SchemaOptions = {}): TUnsafe<Static<T[number]>> {
  return Type.Unsafe<Static<T[number]>>({ type: 'object', oneOf: branches.map(branch => Ref(branch)), discriminator: { propertyName }, required: [propertyName], ...options })
}

/** A point in time as RFC 3339 writes it, in UTC. */
export function Time (description: string) {
  return Type.String({ format: 'date-time', description })
}

/** A count of bytes, as exact as JSON numbers are (up to 2^53 - 1). */
export function Bytes (description: string, options: SchemaOptions = {}) {
  return Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description, ...options })
}
