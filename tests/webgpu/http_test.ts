/**
 * Files on servers, loaded to WebGPU.
 */
import { assertEquals } from "@std/assert";
import { fastsafeOpen } from "../../mod.ts";
import { FaultyServer } from "../support/faulty_server.ts";
import { fileOf } from "../support/models.ts";
import { assertOnGpu, webgpuSuite } from "./support.ts";

webgpuSuite("files on servers to WebGPU", (test) => {
  test("a model on a server loads to WebGPU", async () => {
    const { bytes, tensors } = fileOf([
      { name: "a", dtype: "F32", shape: [900, 1300] },
      { name: "b", dtype: "I16", shape: [3_000_001] },
    ]);
    await using server = new FaultyServer({ "/m.safetensors": bytes });
    await using model = await fastsafeOpen(server.url("/m.safetensors"), { device: "webgpu" });
    for (const expected of tensors) await assertOnGpu(await model.getTensor(expected.name), expected);
    await model.whenLoaded();
    assertEquals(model.stats().path, "http");
  });
});
