// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "0868571d88baf34b89cfa74338bea28e510b7fb5613c10d9bb5ae0e7043ab600";
