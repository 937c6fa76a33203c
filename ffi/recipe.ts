// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "1005333d6937aaf15ac6c8250e500323410fa8782a01f2a1d0caafec96026fb6";
