/**
 * Running a launcher that may not come to its end, whatever becomes of its ranks.
 */

/** How a process ended, and what it printed. */
export interface Ended {
  readonly code: number;
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

/** Longest a program of a test may take before it is ended and the test fails: nothing may hang. In seconds. */
const PATIENCE = 90;

/** How long a process that is asked to end may take, in seconds. */
const GRACE = 5;

/** How long, in seconds, a launcher may leave all its ranks as they ended before it is taken to be stuck. */
const UNTENDED = 5;

/**
 * What a process prints; an error if it hangs. Open MPI 4.1's mpirun now and then waits for itself for ever when its
 * ranks have failed (in PMIx_server_finalize), and takes no signal but SIGKILL then: it is ended, and the code is the
 * first of its ranks' that is not 0.
 */
export async function patiently(command: string, options: Deno.CommandOptions): Promise<Ended> {
  const child = new Deno.Command(command, {
    ...options,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let seconds = 0, untended = 0;
  let codes: number[] | null = null; // of the ranks, once they have all ended
  const watch = setInterval(() => {
    seconds++;
    codes = codesOfEnded(child.pid);
    untended = codes ? untended + 1 : 0;
    if (untended >= UNTENDED || seconds >= PATIENCE + GRACE) end(child, "SIGKILL");
    else if (seconds >= PATIENCE) end(child, "SIGTERM");
  }, 1000);
  const { code, stdout, stderr } = await child.output();
  clearInterval(watch);
  if (untended >= UNTENDED) return { code: codes!.find((one) => one !== 0) ?? 0, stdout, stderr };
  if (seconds < PATIENCE) return { code, stdout, stderr };
  const printed = new TextDecoder().decode(stderr);
  throw new Error(`"${command} ${options.args?.join(" ")}" did not come to its end:\n${printed}`);
}

function end(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // it has just ended by itself
  }
}

/** The exit codes of a process's children, if it has some and all have ended without its taking note; else null. */
function codesOfEnded(parent: number): number[] | null {
  const codes: number[] = [];
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const fields = statOf(name);
    if (Number(fields[1]) !== parent) continue;
    if (fields[0] !== "Z") return null;
    const status = Number(fields.at(-1)); // as wait() gives it
    codes.push(status & 127 ? 128 + (status & 127) : status >> 8);
  }
  return codes.length > 0 ? codes : null;
}

/** What /proc tells of a process, from its state on; nothing if it is gone. */
function statOf(pid: string): string[] {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    return stat.slice(stat.lastIndexOf(")") + 2).trimEnd().split(" ");
  } catch {
    return [];
  }
}
