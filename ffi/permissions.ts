/**
 * The permissions that the native library needs: finds missing ones and formats them as flags.
 */
import { isGranted } from "./variables.ts";

/** The variables that locate the library. */
const LIBRARY_VARIABLES = ["FASTSAFETENSORS_LIB", "XDG_CACHE_HOME", "HOME"];

/** The place of a library. */
export interface LibraryPlace {
  /** Path of the library. */
  readonly path: string;
  /** Its folder. */
  readonly folder: string;
  /** Whether it does not exist yet and must be written. */
  readonly isNew: boolean;
  /** Whether it must be compiled. */
  readonly isBuilt: boolean;
}

/** A program lacks permissions that the library needs. */
export class PermissionsMissing extends Error {
  override readonly name = "PermissionsMissing";
  /** The missing permissions. */
  readonly permissions: readonly Deno.PermissionDescriptor[];

  constructor(permissions: readonly Deno.PermissionDescriptor[]) {
    super(`the native library needs more permissions, add ${asFlags(permissions)}`);
    this.permissions = permissions;
  }
}

/**
 * Checks the permissions to find, write and open a library, before the first try.
 *
 * @param place null if the program cannot read the variables that locate the library
 * @throws {PermissionsMissing} with all useful permissions, also those of later steps
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

/** The cache folder as a word for a shell, for programs that cannot read its variables. */
const SHELL_FOLDER = '"${XDG_CACHE_HOME:-$HOME/.cache}/fastsafetensors"';

/** Formats permissions as flags of Deno, for a command line. */
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

/** Formats a path as one word of a shell. */
function forShell(path: string | URL): string {
  const text = String(path);
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
