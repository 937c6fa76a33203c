// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "07889a38e760df8f13f007c979dd38515bcbdd79db50c411c6ac3c977517312f";
