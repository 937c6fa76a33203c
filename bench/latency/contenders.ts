/**
 * The contenders and their runs: every run is a separate process with a fresh destination and a fresh mount, so that the
 * page cache is empty.
 */
import type { Sample } from "../side_by_side/sample.ts";
import type { LatencyFileSystem } from "./file_system.ts";

/** A contender. */
export interface Contender {
  /** Its name in the table. */
  readonly name: string;
  /** A variant of the probe with a deep queue: the best of them is the limit; the reader with few requests; this loader. */
  readonly role: "probe" | "few requests" | "this";
  /** Reads all files once; `delay` is in milliseconds. */
  run(delay: number): Promise<Sample>;
}

/** Requests in flight of the probe, and of the reader with few. */
const DEEP = 256, FEW = 16;

/** All contenders that can run on this machine; a request of the C programs has `requestBytes`. */
export async function contenders(fs: LatencyFileSystem, requestBytes: number): Promise<Contender[]> {
  const reader = (name: string, role: Contender["role"], flags: readonly string[]): Contender => ({
    name,
    role,
    async run(delay) {
      const args = [...flags, "-b", String(requestBytes), ...fs.files];
      return { seconds: Number(await fs.run(delay, fs.reader, args)) };
    },
  });
  const thisLoader = new URL("../side_by_side/this_loader.ts", import.meta.url).pathname;
  return [
    ...await fs.allowsRing()
      ? [reader(`probe: io_uring, ${DEEP} requests`, "probe", ["-u", `-q${DEEP}`])]
      : [],
    reader(`probe: ${DEEP} threads`, "probe", [`-q${DEEP}`]),
    reader(`${FEW} requests`, "few requests", [`-q${FEW}`]),
    {
      name: "this loader",
      role: "this",
      run: async (delay) =>
        JSON.parse(await fs.run(delay, Deno.execPath(), ["run", "-A", thisLoader, "{}", ...fs.files])),
    },
  ];
}
