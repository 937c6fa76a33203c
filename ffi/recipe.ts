// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "8b7740e151822d96fcc0804cc7daf8e0202d3bb7a9dbb9d3591a9fc2eb365f60";
