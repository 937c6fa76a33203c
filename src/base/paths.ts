/**
 * Paths of files, on POSIX systems and on Windows, without `node:`.
 *
 * On Windows npm's `pathe` does the work: it takes both slashes as separators and gives forward slashes, which Windows
 * understands as well. On POSIX systems a backslash is a character of a name like any other, so `pathe` must not touch
 * such paths. There `..` stays where it is, too: behind a link it is not the folder that the text suggests.
 */
import { quote } from "./text.ts";

/** What a system does with paths. */
export interface Paths {
  /** The folder of a path: "." where it names none. */
  dirname(path: string): string;
  /** The last part of a path. */
  basename(path: string): string;
  /** The path of a file in a folder. */
  join(folder: string, name: string): string;
  /** A path, relative to this folder unless it is absolute, seen from the root. */
  resolve(folder: string, path: string): string;
  /**
   * The path of a `file:` URL; a `%` that begins no escape stands for itself.
   *
   * @throws {TypeError} if the URL names a host that this system cannot reach by a path, or is not text
   */
  fromFileUrl(url: URL): string;
}

/** The functions of `pathe` that are used. */
type Pathe = Pick<Paths, "dirname" | "basename" | "join" | "resolve">;

/** Paths of Linux, macOS and others of their kind. */
export const POSIX: Paths = {
  dirname(path) {
    const end = path.replace(/(?<=.)\/+$/, "");
    const slash = end.lastIndexOf("/");
    return slash < 0 ? "." : end.slice(0, slash).replace(/\/+$/, "") || "/";
  },
  basename(path) {
    const end = path.replace(/\/+$/, "");
    return end.slice(end.lastIndexOf("/") + 1);
  },
  join: (folder, name) => folder.endsWith("/") ? folder + name : `${folder}/${name}`,
  resolve: (folder, path) => path.startsWith("/") ? path : POSIX.join(folder, path),
  fromFileUrl(url) {
    if (url.hostname !== "" && url.hostname !== "localhost") {
      throw new TypeError(
        `Cannot open ${quote(url.href)}: a file: URL with a host is no path on this system`,
      );
    }
    return decodePath(url);
  },
};

/** Paths of Windows. */
export function windowsPaths({ dirname, basename, join, resolve }: Pathe): Paths {
  return {
    dirname,
    basename,
    join,
    resolve,
    fromFileUrl(url) {
      const path = decodePath(url);
      if (url.hostname !== "") return `//${url.hostname}${path}`;
      return path.replace(/^\/(?=[a-z]:)/i, "");
    },
  };
}

function decodePath(url: URL): string {
  try {
    return decodeURIComponent(url.pathname.replace(/%(?![0-9a-f]{2})/gi, "%25"));
  } catch (cause) {
    throw new TypeError(`Cannot open ${quote(url.href)}: its escapes are not UTF-8 text`, { cause });
  }
}

/**
 * The library, in full: programs import this package without its deno.json. Held in a variable, as Deno downloads at
 * once, on every system, what an import names in quotes.
 */
const PATHE = "npm:pathe@2.0.3";

/** Whether paths are those of Windows: only Deno opens files by paths, whatever system a browser is on. */
const isWindows = "Deno" in globalThis && /^win/i.test(globalThis.navigator?.platform ?? "");

/** Of this system. */
export const { dirname, basename, join, resolve, fromFileUrl }: Paths = isWindows
  ? windowsPaths(await import(PATHE) as Pathe)
  : POSIX;
