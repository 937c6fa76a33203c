import { assert, assertEquals } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { NativeEngine } from "../../src/load/native/native_engine.ts";
import { suite } from "../support/skip.ts";

const { shim } = await openLibrary();
suite("NativeEngine", "native", shim ? null : "the native library is missing", () => {
  Deno.test("NativeEngine.allocate() begins at a page, and for large blocks at a huge page", () => {
    const engine = new NativeEngine(shim!);
    for (
      const [byteLength, boundary] of [[1, 4096], [2 ** 22, 4096], [2 ** 23, 2 ** 21], [2 ** 24 + 5, 2 ** 21]]
    ) {
      const { buffer, base } = engine.allocate(byteLength!);
      assertEquals(
        (Number(shim!.fst_address(buffer)) + base) % boundary!,
        0,
        `a block of ${byteLength} bytes`,
      );
      assert(base + byteLength! <= buffer.byteLength, `a block of ${byteLength} bytes contains them`);
    }
  });
});
