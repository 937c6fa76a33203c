/**
 * Loads a file with the options of a configuration file only, by `fastsafeOpen` or `autoOpen`, and prints the result;
 * or, with "all", prints the result of every function that opens files: the code of its error, or null.
 */
import { autoOpen, fastsafeOpen } from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { openPyTorch } from "../../src/pytorch/mod.ts";

const [way, path] = Deno.args as [string, string];

const lines: string[] = [];
const warn = console.warn;
console.warn = (line: string) => void (line.includes("Portable engine") ? warn(line) : lines.push(line));

async function load(open: typeof fastsafeOpen) {
  await using model = await open(path);
  await (await open(path)).close(); // warnings are printed once
  await model.whenLoaded();
  return { threads: model.stats().threads, lines };
}

const WAYS: Readonly<Record<string, () => Promise<unknown>>> = {
  fastsafeOpen: () => load(fastsafeOpen),
  openPyTorch: async () => await (await openPyTorch(path)).close(),
  ParallelLoader: () => Array.fromAsync(new ParallelLoader(null, path).iterateWeights()),
  SafeTensorsFileLoader: async () => {
    await using loader = new SafeTensorsFileLoader();
    await loader.addFilenames({ 0: path });
  },
};

try {
  if (way !== "all") console.log(JSON.stringify(await load(way === "autoOpen" ? autoOpen : fastsafeOpen)));
  else {
    const codes: Record<string, unknown> = {};
    for (const [name, open] of Object.entries(WAYS)) {
      codes[name] = await Promise.try(open).then(() => null, (error) => error.code);
    }
    console.log(JSON.stringify(codes));
  }
} catch (error) {
  console.log(
    JSON.stringify({ error: (error as Error).message, code: (error as { code?: string }).code, lines }),
  );
}
