/**
 * The folder of relative paths. It is a separate module so that an asynchronous function can read it before its first
 * `await` or `import()`: the program can change its folder meanwhile.
 */

/** Returns the folder of relative paths; undefined if it was removed. */
export function workingFolder(): string | undefined {
  try {
    return Deno.cwd();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
