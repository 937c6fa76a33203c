// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "c626357878648830597369f33608c2060c8817cd608403ca67904f8c1f27c90c";
