// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "efca2ffef0e49bb91c669a54764fe00b1b2991dc0a3d2c073a7dc964cf112ddd";
