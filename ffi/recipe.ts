// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "973ff9c1feca42e8e4dd7ce5b21b636f919e3f0a275e5286af7252c56e2b6176";
