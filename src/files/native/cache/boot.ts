/**
 * Identifies the time since the system was started.
 */
import { mayRead } from "../../../../ffi/variables.ts";

const PATH = "/proc/sys/kernel/random/boot_id";

let known: string | null | undefined;

/** Returns an id that changes when the system restarts; null if the system does not say it. */
export function bootId(): string | null {
  if (known === undefined && mayRead(PATH)) {
    try {
      const id = Deno.readTextFileSync(PATH).trim();
      known = /^[\w-]+$/.test(id) ? id : null;
    } catch {
      known = null; // not Linux
    }
  }
  return known ?? null;
}
