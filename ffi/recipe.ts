// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "56a3c1f424149b95ee291d98d5bd39108acbaec795a149c61759bb2649eba0be";
