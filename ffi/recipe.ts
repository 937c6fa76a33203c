// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "fa0106dfa79c9a89543902a47eb9f1942f9a1fbe3b67c7ce3c07f5f9fcc370eb";
