// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "1a71beb0dd4185a4943f2dfeb4bda69e97e2cbce0bd123a925712cf0537fc0bb";
