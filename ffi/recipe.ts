// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "bc3554ec7ff8e61c6ae2467a6806ca14529ba235055f89a0c29608807edd64bb";
