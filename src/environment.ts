/**
 * What surrounds the process, as far as this program may see it: nobody is asked for permission.
 */

/** An environment variable; undefined where it is not set, empty, or not to be seen. */
export function environmentVariable(name: string): string | undefined {
  if (Deno.permissions.querySync({ name: "env", variable: name }).state !== "granted") return undefined;
  return Deno.env.get(name) || undefined;
}

/** Whether a path may be read. */
export function mayRead(path: string): boolean {
  return Deno.permissions.querySync({ name: "read", path }).state === "granted";
}
