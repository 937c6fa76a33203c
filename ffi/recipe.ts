// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "1dcfea7e5ff24f2a178e5e656921717dfcc44c23387c2df5cdf469680b15e81d";
