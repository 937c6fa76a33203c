// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "f987fbb216c5517d2f37401300363685f7e6739759113d541e2de6509aec772d";
