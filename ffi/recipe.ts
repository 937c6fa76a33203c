// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "5292c4dcd06801eed7a6059fbfcafc917a19def23da08719efe4ff2a78aa15fc";
