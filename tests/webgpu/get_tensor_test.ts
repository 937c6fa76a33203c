/**
 * Tensors that model.getTensor() moves to and from WebGPU.
 */
import { assertEquals } from "@std/assert";
import { fastsafeOpen, type HostTensor, type WebGpuTensor } from "../../mod.ts";
import { assertTensor, writeFile } from "../support/models.ts";
import { assertOnGpu, webgpuSuite } from "./support.ts";

webgpuSuite("model.getTensor() to a device on WebGPU", (test) => {
  test("getTensor() copies a tensor from the CPU to WebGPU, and back", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [{ name: "x", dtype: "I16", shape: [3, 5] }]);
    for (const lazy of [false, true]) {
      await using host = await fastsafeOpen(path, { lazy });
      const there: WebGpuTensor = await host.getTensor("x", { device: "webgpu" });
      await assertOnGpu(there, x!);
      await using model = await fastsafeOpen(path, { device: "webgpu", lazy });
      const here: HostTensor = await model.getTensor("x", { device: "cpu" });
      assertTensor(here, x!);
    }
  });

  test("getTensor() does not copy a tensor on the same device", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "F32", shape: [3] }]);
    await using model = await fastsafeOpen(path, { device: "webgpu" });
    using x = await model.getTensor("x");
    for (const device of ["webgpu", x.device] as const) {
      using same = await model.getTensor("x", { device });
      assertEquals([same.buffer, same.byteOffset], [x.buffer, x.byteOffset]);
    }
  });
});
