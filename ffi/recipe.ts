// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "c22c0730daa4cb23b5234c97d975b2180749b997f3065197990744121215950b";
