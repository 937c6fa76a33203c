/**
 * Ranks of which the last fails while a model is handed out; the others say which error they saw, and how long after
 * the failure. Arguments: what happens, folder, files.
 */
import { fastsafeOpen } from "../../mod.ts";
import { ParallelLoader } from "../../src/compat/mod.ts";
import { MpiGroup } from "../../src/ranks/group/mpi_group.ts";
import { say } from "./group/say.ts";
import { writeSparse } from "./sparse.ts";

const [mode, folder, ...names] = Deno.args;
const paths = names.map((name) => `${folder}/${name}`);
const fails = (rank: number, size: number) => rank === size - 1;

async function run(group: MpiGroup): Promise<void> {
  const last = fails(group.rank, group.size);
  if (mode === "files") {
    await using _ = await fastsafeOpen(last ? paths.toReversed() : paths, { group });
    return;
  }
  if (mode === "memory") {
    // 8 TiB of zeros, of which the disk holds none; the last rank is to read them.
    const huge = `${folder}/huge`;
    if (last) await writeSparse(huge, 2 ** 43);
    await group.barrier();
    await using _ = await fastsafeOpen({ 0: paths, [group.size - 1]: huge }, { group });
    return;
  }
  if (mode === "truncated") {
    const loader = new ParallelLoader(group, paths, { maxBytesInFlight: 4000 });
    let count = 0;
    for await (const _ of loader.iterateWeights()) {
      if (++count === 1 && last) await Deno.truncate(`${folder}/${names.at(-1)}`, 5000);
    }
    return;
  }
  if (mode === "break") {
    let count = 0;
    for await (const _ of new ParallelLoader(group, paths, { maxBytesInFlight: 4000 }).iterateWeights()) {
      if (++count === 3 && last) break;
    }
    return await group.barrier(); // still in order: whoever broke off comes here too
  }
  const controller = new AbortController();
  await using model = await fastsafeOpen(paths, { group, signal: controller.signal });
  const [first, second] = model.keys() as [string, string];
  await model.getTensor(first);
  if (last) {
    if (mode === "throw") throw new Error("of the user");
    if (mode === "exit") Deno.exit(3);
    if (mode === "kill") Deno.kill(Deno.pid, "SIGKILL");
    if (mode === "abort") controller.abort(new Error("changed my mind"));
    if (mode === "hang") await new Promise((resolve) => setTimeout(resolve, 6000));
    if (mode === "order") await model.getSharded(second, 0);
  }
  await model.getTensor(second);
}

const group = await MpiGroup.create({ timeoutSeconds: 2 });
await group.barrier();
const start = performance.now();
try {
  await run(group);
  say({ rank: group.rank, name: null });
} catch (error) {
  const { name, message, rank, cause } = error as Error & { rank?: number };
  const seconds = (performance.now() - start) / 1000;
  const said = {
    name,
    message,
    blamed: rank ?? null,
    cause: (cause as Error | undefined)?.name ?? null,
    seconds,
  };
  say({ rank: group.rank, ...said });
  if (mode === "throw") throw error;
  Deno.exitCode = 1;
} finally {
  if (mode !== "throw") await group.close();
}
