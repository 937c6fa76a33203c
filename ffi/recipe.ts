// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "a108b8d69fbbbe0ef927ddb5567f873325bd62605db03b06cb8583016875b892";
