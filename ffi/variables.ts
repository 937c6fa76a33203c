/**
 * Reads environment variables and properties of the system, without a prompt for permissions. Only this module of src and
 * ffi reads them.
 */

/** Whether this program has a permission. */
export function isGranted(permission: Deno.PermissionDescriptor): boolean {
  return Deno.permissions.querySync(permission).state === "granted";
}

/** Returns an environment variable; undefined if it is not set, empty, or not readable. */
export function environmentVariable(name: string): string | undefined {
  if (!isGranted({ name: "env", variable: name })) return undefined;
  return Deno.env.get(name) || undefined;
}

/** Sets an environment variable, if this program has the permission. */
export function setEnvironmentVariable(name: string, value: string): void {
  if (isGranted({ name: "env", variable: name })) Deno.env.set(name, value);
}

/** Whether this program has the permission to read a path. */
export function mayRead(path: string): boolean {
  return isGranted({ name: "read", path });
}

/** Returns the bytes of memory that can still be allocated; -1 without the permission. */
export function availableSystemMemory(): number {
  return isGranted({ name: "sys", kind: "systemMemoryInfo" }) ? Deno.systemMemoryInfo().available : -1;
}

/**
 * Returns the name of this machine.
 *
 * @throws {Deno.errors.NotCapable} without the permission
 */
export function hostName(): string {
  if (isGranted({ name: "sys", kind: "hostname" })) return Deno.hostname();
  throw new Deno.errors.NotCapable(
    "Cannot read the name of this machine: run again with --allow-sys=hostname",
  );
}

/**
 * Returns the user id of this process; null if the system does not have user ids.
 *
 * @throws {Deno.errors.NotCapable} without the permission
 */
export function userId(): number | null {
  if (Deno.build.os === "windows") return null;
  if (isGranted({ name: "sys", kind: "uid" })) return Deno.uid();
  throw new Deno.errors.NotCapable("Cannot read the id of this user: run again with --allow-sys=uid");
}
