import type { Layout } from '../../api/domain.ts'
import type { Format } from '../../api/format.ts'
import type { BrokenImage, Copy, ImageEntry, ImageStatus } from '../../api/image.ts'
import type { CreateResult, DeleteResult } from '../../api/kinds.ts'
import type { Area } from '../area.ts'
import { createVolume } from '../layout/ovirt/create.ts'
import { deleteImage as deleteVolumes } from '../layout/ovirt/delete.ts'
import * as ovirt from '../layout/ovirt/reads.ts'
import type { CopiesQuery, CreateRequest, DeleteRequest, Page } from '../protocol.ts'
import { createImage, deleteImage } from './changes.ts'
import { imageStatus, listCopies, listFixes, listImages } from './reads.ts'

/** What a layout decides: how the images of a domain are read, created and deleted. */
export interface LayoutWork {
  images (area: Area, after: string, limit: number): Promise<ImageEntry[]>
  image (area: Area, image: string, format: Format | undefined): Promise<ImageStatus>
  /** @param progressed called again and again while it takes long. */
  copies (area: Area, query?: CopiesQuery, progressed?: () => void): Promise<Copy[]>
  fixes (area: Area, page?: Page, progressed?: () => void): Promise<BrokenImage[]>
  create (area: Area, request: CreateRequest): Promise<CreateResult>
  delete (area: Area, request: DeleteRequest, accepted: () => void): Promise<DeleteResult>
}

/** The layouts there are. Nothing above knows which one it talks to. */
export const layouts: Readonly<Record<Layout, LayoutWork>> = {
  directory: { images: listImages, image: imageStatus, copies: listCopies, fixes: listFixes, create: createImage, delete: deleteImage },
  ovirt: { images: ovirt.listImages, image: ovirt.imageStatus, copies: ovirt.listCopies, fixes: ovirt.listFixes, create: createVolume, delete: deleteVolumes }
}
