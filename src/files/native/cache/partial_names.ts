/**
 * The names of partial files and of their maps. A partial file can be written by several processes at once: all write the
 * same bytes at the same places, and each has a map of its own.
 *
 *   NAME.TOKEN.part         the bytes; TOKEN is never used twice, so a map cannot belong to later bytes
 *   NAME.TOKEN.PROCESS.map  the ranges that one process has written
 */

const PART = /^(.+)\.([0-9a-f]{16})\.part$/;
const MAP = /^(.+)\.([0-9a-f]{16})\.[0-9a-f]{16}\.map$/;

/** The files of one partial file. */
export interface PartialNames {
  /** The name of the whole file. */
  readonly name: string;
  readonly token: string;
  /** Whether the file with the bytes exists. */
  part: boolean;
  /** The names of its maps. */
  readonly maps: string[];
}

/** Returns 16 random hexadecimal digits. */
export function randomDigits(): string {
  return crypto.getRandomValues(new Uint8Array(8)).toHex();
}

/** Returns the name of a partial file. */
export function partName(name: string, token: string): string {
  return `${name}.${token}.part`;
}

/** Returns a new name for a map. */
export function newMapName(name: string, token: string): string {
  return `${name}.${token}.${randomDigits()}.map`;
}

/** Lists the partial files in a folder; other files are ignored. Empty if the folder does not exist. */
export async function partialsIn(folder: string): Promise<PartialNames[]> {
  const found = new Map<string, PartialNames>();
  try {
    for await (const { name: file, isFile } of Deno.readDir(folder)) {
      const part = PART.exec(file);
      const [, name, token] = part ?? MAP.exec(file) ?? [];
      if (!isFile || name === undefined || token === undefined) continue;
      const key = `${name}.${token}`;
      const partial = found.get(key) ?? { name, token, part: false, maps: [] };
      found.set(key, partial);
      if (part) partial.part = true;
      else partial.maps.push(file);
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return [...found.values()];
}
