// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "0134f63e57a56a339c3ae6813954de663d07f1f7bd26242679d0764e025eca97";
