/**
 * What devices do in hosts other than Deno.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { DeviceError } from "../../src/base/errors.ts";
import { HostTensor } from "../../src/device/tensors.ts";
import { useDLPack } from "../../src/device/dlpack.ts";

Deno.test("HostTensor.toDLPack() says what to import where no native library is registered, and uses one that is", async () => {
  const tensor = new HostTensor("x", "U8", [2], new Uint8Array([1, 2]));
  await assertRejects(() => tensor.toDLPack(), DeviceError, 'Cannot give tensor "x" by DLPack');
  await assertRejects(() => tensor.toDLPack(), DeviceError, "import the package's main module");
  useDLPack((given, { versioned }) => Promise.resolve(given === tensor && versioned ? 7n : 0n));
  assertEquals(await tensor.toDLPack({ versioned: true }), 7n);
});

Deno.test("nextTurn() lets timers run in a host without setImmediate", async () => {
  const { setImmediate } = globalThis;
  Reflect.deleteProperty(globalThis, "setImmediate");
  try {
    // Another address makes another module, which looks for setImmediate again.
    const address = new URL("../../src/base/turn.ts?without=setImmediate", import.meta.url).href;
    const { nextTurn } = await import(address) as typeof import("../../src/base/turn.ts");
    let ran = false;
    const timer = new Promise<void>((resolve) =>
      setTimeout(() => {
        ran = true;
        resolve();
      }, 0)
    );
    for (let turns = 0; !ran && turns < 100_000; turns++) await nextTurn();
    assertEquals(ran, true);
    await timer;
  } finally {
    globalThis.setImmediate = setImmediate;
  }
});
