// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "44fc3783fdd0b94fe335dfd543b0a4a925c682fbb8c16d8e5357fdbe367a44a9";
