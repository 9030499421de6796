/**
 * The folder that this program's files are in, sources or build. Files find each other from here, and not from where
 * they are themselves: in the build, the agent is one file (scripts/build.mjs).
 */
export const programFolder = new URL('./', import.meta.url)
