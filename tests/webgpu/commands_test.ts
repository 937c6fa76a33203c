/**
 * The commands on WebGPU, in separate processes; and the host memory of a load.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { runCli, runCliWith } from "../cli/support.ts";
import { writeFile, writeHole } from "../support/models.ts";
import { webgpuSuite } from "./support.ts";

webgpuSuite("Commands on WebGPU", (test) => {
  test("load --device webgpu loads, and casts dtypes that only a GPU casts", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "a", dtype: "BF16", shape: [3, 5] },
      { name: "b", dtype: "F4", shape: [4] },
      { name: "c", dtype: "I64", shape: [2] },
    ]);
    const { code, stdout } = await runCli("load", path, "--device", "webgpu", "--dtype", "F32", "--json");
    assertEquals(code, 0);
    const { device, tensors, bytes } = JSON.parse(stdout);
    assertEquals([device, tensors, bytes], ["webgpu", 3, 48]);
    const { stdout: text } = await runCli("load", path, "--device", "webgpu");
    assertStringIncludes(text, "to webgpu; ");
    const { info } = (await navigator.gpu.requestAdapter())!;
    const note = `  note: WebGPU runs on the processor: ${info.description} is a software adapter\n`;
    assertEquals(text.includes(note), info.isFallbackAdapter);
  });

  test("load --device webgpu without an adapter names the package to install", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "a", dtype: "U8", shape: [1] }]);
    const env = { NO_COLOR: "1", DENO_WEBGPU_BACKEND: "" };
    const { code, stdout, stderr } = await runCliWith(env, "load", path, "--device", "webgpu");
    assertEquals([code, stdout], [1, ""]);
    assertEquals(
      stderr.trim(),
      'error: Cannot load to device "webgpu": no adapter was found: install the Vulkan driver of your GPU, or a ' +
        "software one (Debian: apt-get install mesa-vulkan-drivers libvulkan1)",
    );
  });

  test("doctor reports the adapter, its limits and its features", async () => {
    const { info, limits, features } = (await navigator.gpu.requestAdapter())!;
    const { code, stdout } = await runCli("doctor", "--json");
    assertEquals(code, 0);
    const { adapter, reason } = JSON.parse(stdout).webgpu;
    assertEquals(reason, "");
    assertEquals([adapter.isSoftware, adapter.features], [info.isFallbackAdapter, [...features].sort()]);
    for (
      const limit of [
        "maxBufferSize",
        "maxStorageBufferBindingSize",
        "minStorageBufferOffsetAlignment",
      ] as const
    ) {
      assertEquals(adapter[limit], limits[limit], limit);
    }
    const line = (await runCli("doctor")).stdout.split("\n").find((line) => line.startsWith("WebGPU "));
    assertStringIncludes(line!, adapter.name);
    assertEquals(line!.includes("shader-f16"), features.has("shader-f16"));
  });

  test("a load uses only its ring of host memory, for models of any size", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const bytes = 768 * 2 ** 20;
    await writeHole(path, bytes);
    const program = new URL("../children/load_webgpu.ts", import.meta.url).pathname;
    const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["run", "-A", program, path] })
      .output();
    const { isSoftware, before, peak } = JSON.parse(new TextDecoder().decode(stdout));
    const beyond = peak - before - (isSoftware ? bytes : 0); // its buffers are host memory as well
    assert(beyond <= 256 * 2 ** 20, `${beyond} bytes`);
  });
});
