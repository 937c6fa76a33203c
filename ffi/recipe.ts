// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "505b1f3ec35c36ba06bfd5c37d092f26eb57db73cbd923fc2a2432ef8f8246c4";
