/**
 * Functions for file paths on POSIX systems and on Windows, without `node:`.
 *
 * Windows accepts both slashes as separators; these functions return forward slashes. On POSIX systems a backslash is an
 * ordinary character of a name. `..` is not removed, because after a link it can be another folder than the text
 * suggests.
 */
import { quote } from "./text.ts";

/** The path functions of a system. */
export interface Paths {
  /** Returns the folder of a path; "." if the path has none. */
  dirname(path: string): string;
  /** Returns the last part of a path. */
  basename(path: string): string;
  /** Returns the path of a file in a folder. */
  join(folder: string, name: string): string;
  /** Returns an absolute path; a relative path starts at `folder`. */
  resolve(folder: string, path: string): string;
  /**
   * Returns the path of a `file:` URL; a `%` without two hexadecimal digits is an ordinary character.
   *
   * @throws {TypeError} if the URL has a host that paths of this system cannot express, or its escapes are not UTF-8
   */
  fromFileUrl(url: URL): string;
}

/** Path functions of Linux, macOS and other POSIX systems. */
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
        `Cannot open ${quote(url.href)}: a file: URL with a host has no path on this system`,
      );
    }
    return decodePath(url);
  },
};

/** Path functions of Windows. */
export const WINDOWS: Paths = {
  // The folder of "C:/a" is the root of the drive: "C:" alone is its current folder.
  dirname: (path) => POSIX.dirname(slashed(path)).replace(/^[a-z]:$/i, "$&/"),
  basename: (path) => POSIX.basename(slashed(path)),
  join: (folder, name) => POSIX.join(slashed(folder), slashed(name)),
  resolve(folder, path) {
    const given = slashed(path);
    if (/^(?:[a-z]:)?\/\/?/i.test(given)) {
      return /^(?:[a-z]:|\/\/)/i.test(given) ? given : (/^[a-z]:/i.exec(folder)?.[0] ?? "") + given;
    }
    return WINDOWS.join(folder, given);
  },
  fromFileUrl(url) {
    const path = decodePath(url);
    if (url.hostname !== "") return `//${url.hostname}${path}`;
    return path.replace(/^\/(?=[a-z]:)/i, "");
  },
};

function slashed(path: string): string {
  return path.replaceAll("\\", "/");
}

function decodePath(url: URL): string {
  try {
    return decodeURIComponent(url.pathname.replace(/%(?![0-9a-f]{2})/gi, "%25"));
  } catch (cause) {
    throw new TypeError(`Cannot open ${quote(url.href)}: its escapes are not UTF-8 text`, { cause });
  }
}

/** Whether to use paths of Windows. A browser does not open files by path, so only Deno is checked. */
const isWindows = "Deno" in globalThis && /^win/i.test(globalThis.navigator?.platform ?? "");

/** The path functions of this system. */
export const { dirname, basename, join, resolve, fromFileUrl }: Paths = isWindows ? WINDOWS : POSIX;
