// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "b71858dfbd503c1ad81329d58d7a4007f3c9bba76410cdaea4ba7c526cbc1225";
