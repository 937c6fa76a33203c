// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "d9b8a967e6b5a1067f0e26a5a67a1ed6ca3aec9eea185f50afaf6153c95f6d92";
