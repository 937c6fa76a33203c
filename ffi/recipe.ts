// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "42a7621aab24214c454e0e097c2aa372b55716a694ac4b1bec8cf43eb9ae9a15";
