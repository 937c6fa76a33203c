/** Loads a file with nothing but what a configuration file says, and prints what came of it. */
import { fastsafeOpen } from "../../mod.ts";

const lines: string[] = [];
const warn = console.warn;
console.warn = (line: string) => void (line.includes("Portable engine") ? warn(line) : lines.push(line));
try {
  await using model = await fastsafeOpen(Deno.args[0]!);
  await (await fastsafeOpen(Deno.args[0]!)).close(); // warnings are given once
  await model.whenLoaded();
  console.log(JSON.stringify({ threads: model.stats().threads, lines }));
} catch (error) {
  console.log(
    JSON.stringify({ error: (error as Error).message, code: (error as { code?: string }).code, lines }),
  );
}
