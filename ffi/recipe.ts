// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "cb5f26e5322dda61e2b80f82fe614066bb98c8827ea6412301e62e23dccdf1cd";
