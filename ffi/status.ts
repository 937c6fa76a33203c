/**
 * Texts for system error numbers.
 */
import { getSystemErrorMap } from "node:util";

/** Returns the text of an error number: "no such file or directory (ENOENT)" for 2. */
export function systemErrorText(errno: number): string {
  const [name, text] = getSystemErrorMap().get(-errno) ?? [];
  return name ? `${text} (${name})` : `system error ${errno}`;
}
