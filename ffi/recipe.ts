// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "ef62280e576802a0f45eb2ed091b9ba188bbcffae4de4baff824084bdc654ad1";
