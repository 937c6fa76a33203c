// `deno task build:sources` writes this file: do not edit it.

/** SHA-256 of `SOURCES`, as `hashOf` in build.ts makes it. */
export const SOURCES_HASH = "dd58d55ec93586197ab0a9f10dec8ddc81d0a262b130623562aaf0888376b082";
