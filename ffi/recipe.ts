// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "62c0287ffbd8e12d7e8ed44cc5f8335a0a297513f8c8d4101f326fa31179a201";
