// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "46a78b2d9eb969e865d9d5ab0f6fc1df05520fb1c15be034bc7744b2fb99d87e";
