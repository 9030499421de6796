import { Type } from '@sinclair/typebox'

/** Callers may put into an id whatever fits this: there are no tags. */
export const taskIdPattern = '^[A-Za-z0-9][A-Za-z0-9._~:@=+,-]{0,254}$'

export const domainIdPattern = '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'

/**
 * A plain file name: no slash, no control character, no leading dot. 200 characters leave room for
 * the suffixes of the copy record within the 255 bytes that file systems allow.
 */
export const imageNamePattern = '^[A-Za-z0-9_][A-Za-z0-9 ._~:@=+,()-]{0,199}$'

/** Images, volumes and domains of oVirt. */
export const uuidPattern = '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'

export const TaskId = Type.String({ pattern: taskIdPattern, maxLength: 255, description: 'Chosen by the caller.', examples: ['nightly-42'] })
export const DomainId = Type.String({ pattern: domainIdPattern, maxLength: 63, description: 'The id of a storage domain.', examples: ['local'] })
export const ImageName = Type.String({ pattern: imageNamePattern, maxLength: 200, description: 'The name of an image in its domain.', examples: ['sample.raw'] })
export const VolumeId = Type.String({ pattern: uuidPattern, maxLength: 36, description: 'A volume of the image, in domains of the layout `ovirt`: a UUID.', examples: ['2b1a8f7c-5d0e-4c5a-9a5e-0d6f3c1b7e42'] })
