// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "80b37a9699139c4f4073f74a509e221d1ded4497e741b8604d1fa7401b6ad2a2";
