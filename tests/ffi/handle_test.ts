import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { Handle } from "../../ffi/handle.ts";
import { UseAfterCloseError } from "../../src/base/errors.ts";

Deno.test("Handle: close() frees once after the last user has ended, and refuses new users at once", async () => {
  const freed: bigint[] = [];
  const handle = new Handle("the ring", 7n, (value) => void freed.push(value));
  const first = Promise.withResolvers<string>();
  const second = Promise.withResolvers<string>();
  const results = [handle.use("read", () => first.promise), handle.use("read", () => second.promise)];
  const closed = [handle.close(), handle.close()];
  assertThrows(() => handle.use("read", () => 1), UseAfterCloseError, "Cannot read: the ring was closed");
  first.resolve("a");
  assertEquals(await results[0], "a");
  assertEquals(freed, []);
  second.resolve("b");
  assertEquals(await results[1], "b");
  await Promise.all(closed);
  assertEquals(freed, [7n]);
});

Deno.test("Handle: a user that throws or rejects has ended", async () => {
  let freed = 0;
  const handle = new Handle("the file", 3, () => void freed++);
  assertThrows(() =>
    handle.use("read", () => {
      throw new RangeError("no");
    }), RangeError);
  const failing = handle.use("read", () => Promise.reject(new RangeError("later")));
  const closed = handle.close();
  assertEquals(freed, 0);
  await assertRejects(() => failing, RangeError, "later");
  await closed;
  assertEquals(freed, 1);
});

Deno.test("Handle: close() without users frees before it returns, and reports a failure", async () => {
  let freed = 0;
  void new Handle("the file", 3, () => void freed++).close();
  assertEquals(freed, 1);
  const handle = new Handle("the mount", 3, () => Promise.reject(new RangeError("busy")));
  await assertRejects(() => handle.close(), RangeError, "busy");
  await assertRejects(() => handle.close(), RangeError, "busy");
});
