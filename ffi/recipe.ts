// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "cc27601944e5543e56cbfa85e17d295ad27efdf780590e85b62ce5b0ac026ee4";
