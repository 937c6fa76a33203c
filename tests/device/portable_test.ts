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

Deno.test("turn() lets timers run in a host without setImmediate", async () => {
  const { setImmediate } = globalThis;
  Reflect.deleteProperty(globalThis, "setImmediate");
  try {
    const { turn } = await import("../../src/device/webgpu/pieces.ts");
    let ran = false;
    const timer = new Promise<void>((resolve) =>
      setTimeout(() => {
        ran = true;
        resolve();
      }, 0)
    );
    for (let turns = 0; !ran && turns < 100_000; turns++) await turn();
    assertEquals(ran, true);
    await timer;
  } finally {
    globalThis.setImmediate = setImmediate;
  }
});
