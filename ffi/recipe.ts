// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "e2d6a37a77168338624ef5aeb1358925e0210a0a7b5213fb9c9e10a09f4c35f6";
