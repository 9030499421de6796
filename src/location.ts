/** Set in a bundle (scripts/build.mjs): where the folder of the program is from there. */
declare const PROGRAM_FOLDER: string | undefined

/**
 * The folder that this program's files are in, sources or build. Files find each other from here, and not from where
 * they are themselves: in the build, the agent is one file, and so is each of its children.
 */
export const programFolder = new URL(typeof PROGRAM_FOLDER === 'undefined' ? './' : PROGRAM_FOLDER, import.meta.url)
