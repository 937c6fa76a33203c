import { assert, assertEquals } from "@std/assert";
import { patiently } from "./patience.ts";

const sh = (script: string) => patiently("sh", { args: ["-c", script] });

Deno.test("patiently() gives what a process ends with", async () => {
  const { code, stdout, stderr } = await sh("echo out; echo err >&2; (exit 3) & wait $!");
  const text = new TextDecoder();
  assertEquals([code, text.decode(stdout), text.decode(stderr)], [3, "out\n", "err\n"]);
});

Deno.test("patiently() ends a launcher that is stuck after its ranks, with their code", async () => {
  const start = performance.now();
  // What takes the shell's place does not know of its children.
  const { code } = await sh("(exit 0) & (exit 7) & exec sleep 60");
  assertEquals(code, 7);
  assert(performance.now() - start < 30_000);
});
