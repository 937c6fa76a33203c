// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "1c3c5bbf1bb07bab34749e81cf496e3121a32a161a8f0131216a5f45176de048";
