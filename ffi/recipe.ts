// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "64f028482efc39b7d27a4c5c78d73992d7a0964d662c0db4f4c8ba47bce87104";
