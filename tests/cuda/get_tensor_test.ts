import { assert, assertEquals, assertRejects } from "@std/assert";
import { type CudaTensor, DeviceError, fastsafeOpen, HostTensor, SafeTensorsError } from "../../mod.ts";
import { encode } from "../support/floats.ts";
import { assertTensor, writeFile } from "../support/models.ts";
import { assertOnDevice, cudaSuite, toHost, useCuda } from "./support.ts";

const machine = await useCuda();

cudaSuite("model.getTensor() to a device", machine, (test) => {
  for (const lazy of [false, true]) {
    const how = lazy ? "a lazy model" : "a model";

    test(`${how} on the CPU returns tensors on a GPU`, async (folder) => {
      const path = `${folder}/model.safetensors`;
      const [x, none] = await writeFile(path, [
        { name: "x", dtype: "F16", shape: [4], bytes: encode([1, 2, 3, -0.5], "F16") },
        { name: "none", dtype: "I32", shape: [0, 3] },
      ]);
      await using model = await fastsafeOpen(path, { lazy });
      const there: CudaTensor = await model.getTensor("x", { device: "cuda" });
      assertEquals(there.device, "cuda:0");
      await assertOnDevice(there, x!);
      await assertOnDevice(await model.getTensor("none", { device: "cuda:0" }), none!);
      const cast = await toHost(await model.getTensor("x", { device: "cuda", dtype: "F32" }));
      assertEquals(cast.data, new Float32Array([1, 2, 3, -0.5]));
      const here: HostTensor = await model.getTensor("x", { device: "cpu" });
      assertTensor(here, x!);
      assertEquals(model.stats().device, "cpu");
    });

    test(`${how} on a GPU returns tensors in host memory, and on the same device`, async (folder) => {
      const path = `${folder}/model.safetensors`;
      const [x] = await writeFile(path, [
        { name: "x", dtype: "F16", shape: [4], bytes: encode([1, 2, 3, -0.5], "F16") },
      ]);
      await using model = await fastsafeOpen(path, { device: "cuda", lazy });
      const here: HostTensor = await model.getTensor("x", { device: "cpu" });
      assert(here instanceof HostTensor);
      assertTensor(here, x!);
      const cast = await model.getTensor("x", { device: "cpu", dtype: "F32" });
      assertEquals(cast.data, new Float32Array([1, 2, 3, -0.5]));
      using same = await model.getTensor("x", { device: "cuda:0" });
      if (!lazy) {
        using other = await model.getTensor("x");
        assertEquals(same.devicePointer, other.devicePointer, "the same device: no copy");
      }
      assertTensor(await same.copyToHost(), x!);
    });
  }

  test("getTensor() copies from one GPU to another without host memory", async (folder) => {
    if (machine.devices < 2) return console.log("    only one device here: not tried");
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [{ name: "x", dtype: "U8", shape: [3, 1001] }]);
    await using model = await fastsafeOpen(path, { device: "cuda:0" });
    await model.whenLoaded();
    machine.standIns?.reset();
    using there = await model.getTensor("x", { device: "cuda:1" });
    assertEquals(there.device, "cuda:1");
    if (machine.standIns) {
      const { copied } = machine.standIns.report();
      assertEquals([copied.d2h, copied.h2d, copied.peer], [0, 0, 3003]);
    }
    assertTensor(await there.copyToHost(), x!);
  });

  test("getTensor() rejects a device that does not exist, and later calls succeed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [{ name: "x", dtype: "I64", shape: [2] }]);
    for (const device of ["cpu", "cuda"] as const) {
      await using model = await fastsafeOpen(path, { device });
      await assertRejects(() => model.getTensor("x", { device: "cuda:63" }), DeviceError, '"cuda:63"');
      await assertRejects(() => model.getTensor("x", { device: "gpu" as "cpu" }), TypeError, '"gpu"');
      await assertRejects(
        () => model.getTensor("x", { device: "cuda", dtype: "F32" }),
        SafeTensorsError,
        "from I64 to F32",
      );
      assertTensor(await model.getTensor("x", { device: "cpu" }), x!);
    }
  });
});
