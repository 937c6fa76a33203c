import { assertEquals } from "@std/assert";
import type { CallMemory } from "../../../ffi/group_call.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { copyMemory } from "../../../src/ranks/group/mpi_staging.ts";
import { suite } from "../../support/skip.ts";

const { shim } = await openLibrary();

function onHost(bytes: Uint8Array<ArrayBuffer>): CallMemory {
  return { host: bytes, address: 0n, byteLength: bytes.byteLength, device: -1 };
}

suite("copyMemory()", "native", shim ? null : "there is no native library", () => {
  Deno.test("copyMemory() copies between arrays, none, and parts of one array that overlap", async () => {
    const from = Uint8Array.from([1, 2, 3, 4, 5, 6]), to = new Uint8Array(6);
    await copyMemory(shim!, onHost(to), onHost(from));
    assertEquals([...to], [1, 2, 3, 4, 5, 6]);
    await copyMemory(shim!, onHost(to.subarray(0, 0)), onHost(from.subarray(2, 2)));
    await copyMemory(shim!, onHost(to.subarray(2)), onHost(to.subarray(0, 4)));
    assertEquals([...to], [1, 2, 1, 2, 3, 4]);
    await copyMemory(shim!, onHost(to.subarray(0, 5)), onHost(to.subarray(1)));
    assertEquals([...to], [2, 1, 2, 3, 4, 4]);
  });
});
