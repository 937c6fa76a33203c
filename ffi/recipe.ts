// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "31e65045c4d65dd0266d04dae4bf6c4d7395a6c605c868abf9c206ddfaa56a8f";
