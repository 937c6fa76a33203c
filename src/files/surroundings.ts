/**
 * The surroundings of a program: variables and files that configure services. The portable part has none of its own.
 */

/** Reads variables and small files. */
export interface Surroundings {
  /** Returns an environment variable; undefined if it is not set, empty, or not readable. */
  variable(name: string): string | undefined;
  /** Returns the text of a file; null if it does not exist or is not readable. */
  readText(path: string): Promise<string | null>;
}
