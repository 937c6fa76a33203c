// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "53ca5e14024d93d334a5ddfc147cbf0c68b3e9ae0560d0fead01074d1de3873b";
