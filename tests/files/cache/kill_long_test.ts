import { assert, assertEquals } from "@std/assert";
import { killRounds } from "./kill.ts";

Deno.test("a process that fills the cache can be killed at any moment", async () => {
  const { killed, requested, repeated, ...others } = await killRounds(20);
  assertEquals(repeated, 0, JSON.stringify(others));
  assert(killed > 0 && requested > 0, JSON.stringify({ killed, requested }));
});
