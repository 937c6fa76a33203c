import { assert } from "@std/assert";
import { suite } from "../support/skip.ts";
import { missing, sanitized, stress } from "./stress.ts";

const LOADS = new URL("../load_native_long_test.ts", import.meta.url).pathname;

stress(120, "portable", 11, "plain");
suite("random ends of loads and reads", "native", missing, () => {
  stress(120, "native", 12, "freed memory overwritten");
  stress(120, "3fs", 13, "freed memory overwritten");
  stress(120, "native", 14, "sanitizers", true);
  stress(120, "3fs", 15, "sanitizers", true);

  Deno.test("loads of the suite that are ended at random moments [native, sanitizers]", async () => {
    const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--no-check", LOADS],
      env: { NO_COLOR: "1", ...await sanitized() },
    }).output();
    const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
    assert(success && printed.includes("ok | 1 passed"), printed.slice(-20_000));
  });
});
