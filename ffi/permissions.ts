/**
 * The permissions that the native library needs: which of them a program lacks, and how to give them.
 */
import { isGranted } from "./variables.ts";

/** The variables by which the library is found. */
const LIBRARY_VARIABLES = ["FASTSAFETENSORS_LIB", "XDG_CACHE_HOME", "HOME"];

/** What is known of a library's place. */
export interface LibraryPlace {
  /** The library. */
  readonly path: string;
  /** The folder that it is in. */
  readonly folder: string;
  /** Whether it must be put there first. */
  readonly isNew: boolean;
  /** Whether it must be compiled for that. */
  readonly isBuilt: boolean;
}

/** A program lacks permissions that the library needs. */
export class PermissionsMissing extends Error {
  override readonly name = "PermissionsMissing";
  /** What it lacks. */
  readonly permissions: readonly Deno.PermissionDescriptor[];

  constructor(permissions: readonly Deno.PermissionDescriptor[]) {
    super(`the native library needs more permissions, add ${asFlags(permissions)}`);
    this.permissions = permissions;
  }
}

/**
 * Checks that a library may be found, put at its place and opened, before any of that is tried.
 *
 * @param place null: the variables that tell it cannot be seen
 * @throws {PermissionsMissing} with all that helps, also what this step does not need
 */
export function checkPermissions(place: LibraryPlace | null): void {
  const folder = place ? { path: place.folder } : {};
  const needed: Deno.PermissionDescriptor[] = [
    place ? { name: "ffi", path: place.path } : { name: "ffi" },
    { name: "read", ...folder },
    ...place?.isNew === false ? [] : [{ name: "write", ...folder } as const],
    ...place?.isBuilt === false || place?.isNew === false ? [] : [{ name: "run", command: "cc" } as const],
  ];
  const missing = needed.filter((permission) => !isGranted(permission));
  if (place && missing.length === 0) return;
  const helpful: Deno.PermissionDescriptor[] = [
    ...LIBRARY_VARIABLES.map((variable) => ({ name: "env", variable } as const)),
    { name: "sys", kind: "systemMemoryInfo" },
  ];
  throw new PermissionsMissing([...missing, ...helpful.filter((permission) => !isGranted(permission))]);
}

/** Where the cache folder is, for a shell: the variables that say it cannot be seen here. */
const SHELL_FOLDER = '"${XDG_CACHE_HOME:-$HOME/.cache}/fastsafetensors"';

/** Permissions as flags of Deno, to copy to a command line. */
function asFlags(permissions: readonly Deno.PermissionDescriptor[]): string {
  const variables = permissions.flatMap((permission) =>
    permission.name === "env" ? [permission.variable] : []
  );
  const flags = permissions.map((permission) => {
    switch (permission.name) {
      case "read":
      case "write":
        return `--allow-${permission.name}=${permission.path ? forShell(permission.path) : SHELL_FOLDER}`;
      case "run":
        return `--allow-run=${permission.command}`;
      case "sys":
        return `--allow-sys=${permission.kind}`;
      case "env":
        return `--allow-env=${variables}`;
      default:
        return `--allow-${permission.name}`;
    }
  });
  return [...new Set(flags)].join(" ");
}

/** A path as one word of a shell. */
function forShell(path: string | URL): string {
  const text = String(path);
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
