/**
 * The folder of relative paths, by itself: an asynchronous function asks for it at once, before it imports or awaits
 * anything, as the program may change its folder meanwhile.
 */

/** The folder that relative paths count from now; undefined where it was removed. */
export function workingFolder(): string | undefined {
  try {
    return Deno.cwd();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
