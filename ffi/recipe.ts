// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "d658c65b0250e55b359cf272f2d3f715636b1e6b028818861546f07cea669313";
