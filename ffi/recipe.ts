// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "f13988f0c0a5e4510e4a7a449c8b66334d211b890502ffeab217247a06146138";
