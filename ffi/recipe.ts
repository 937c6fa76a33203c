// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "2934c80e015827534672035459d4e3e16c12c198241f3fbcf235f670af4023f3";
