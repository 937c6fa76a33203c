/**
 * What surrounds the process, as far as this program may see it. This is the only place in src and ffi that asks for
 * it: nobody is asked for permission, on a terminal neither.
 */

/** Whether this program has a permission already. */
export function isGranted(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

/** An environment variable; undefined where it is not set, empty, or not to be seen. */
export function environmentVariable(name: string): string | undefined {
  if (!isGranted({ name: "env", variable: name })) return undefined;
  return Deno.env.get(name) || undefined;
}

/** Sets an environment variable, where this program may. */
export function setEnvironmentVariable(name: string, value: string): void {
  if (isGranted({ name: "env", variable: name })) Deno.env.set(name, value);
}

/** Whether a path may be read. */
export function mayRead(path: string): boolean {
  return isGranted({ name: "read", path });
}

/** Bytes of memory that may still be allocated; -1 where that is not to be seen. */
export function availableSystemMemory(): number {
  return isGranted({ name: "sys", kind: "systemMemoryInfo" }) ? Deno.systemMemoryInfo().available : -1;
}

/**
 * The name of this machine.
 *
 * @throws {Deno.errors.NotCapable} where it is not to be seen
 */
export function hostName(): string {
  if (isGranted({ name: "sys", kind: "hostname" })) return Deno.hostname();
  throw new Deno.errors.NotCapable(
    "Cannot see the name of this machine: run again with --allow-sys=hostname",
  );
}

/**
 * The user that this process runs as; null where the system has no numbers for users.
 *
 * @throws {Deno.errors.NotCapable} where it is not to be seen
 */
export function userId(): number | null {
  if (Deno.build.os === "windows") return null;
  if (isGranted({ name: "sys", kind: "uid" })) return Deno.uid();
  throw new Deno.errors.NotCapable("Cannot see which user this is: run again with --allow-sys=uid");
}
