// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "e2a97ce8915ae531f4cd62ddf77eab738524172dff592ba96babe14f45e6d683";
