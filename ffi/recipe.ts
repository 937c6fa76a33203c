// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "69d146b743284133e292fee52ca65e3bd749c7ae8e15a6681928cb5c9381f42a";
