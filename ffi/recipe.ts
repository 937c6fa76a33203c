// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "3eb5a2fb037b280531fde5922314b044b8f5a1920e96628aed67406e0c2c4c3a";
