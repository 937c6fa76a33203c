/**
 * Give a tensor's buffer to another library: a kernel of TypeGPU (https://typegpu.com) sums the rows of a weight.
 *
 *     deno run -A examples/webgpu_typegpu.ts
 *
 * It makes a file with a weight of 32 × 64, and removes it at the end. It needs a GPU, or a software adapter such as
 * Debian's mesa-vulkan-drivers, and TypeGPU from npm.
 */
import { fastsafeOpen, serialize } from "@x/fastsafetensors";

// Not a static import: to check this project, TypeGPU must not be needed.
const TYPEGPU = "npm:typegpu@0.12.5";
const { default: tgpu, d } = await import(TYPEGPU);

const [ROWS, COLUMNS] = [32, 64];
const path = await Deno.makeTempFile({ suffix: ".safetensors" });
const data = Float16Array.from({ length: ROWS * COLUMNS }, (_, index) => Math.floor(index / COLUMNS) / 8);
await Deno.writeFile(path, serialize({ weight: { dtype: "F16", shape: [ROWS, COLUMNS], data } }));
try {
  await using model = await fastsafeOpen(path, { device: "webgpu" });
  using half = await model.getTensor("weight");
  // TypeGPU binds buffers from their first byte on. Results of to() and getSlice() have their own buffers.
  using weight = await half.to({ dtype: "F32" });

  const root = tgpu.initFromDevice({ device: weight.device });
  const layout = tgpu.bindGroupLayout({
    weight: { storage: d.arrayOf(d.f32) },
    sums: { storage: d.arrayOf(d.f32), access: "mutable" },
  });
  const sumRows = tgpu.computeFn({ in: { id: d.builtin.globalInvocationId }, workgroupSize: [ROWS] })`{
    var sum = 0.0;
    for (var column = 0u; column < ${COLUMNS}u; column++) {
      sum += layout.$.weight[in.id.x * ${COLUMNS}u + column];
    }
    layout.$.sums[in.id.x] = sum;
  }`.$uses({ layout });
  const sums = root.createBuffer(d.arrayOf(d.f32, ROWS)).$usage("storage");
  const group = root.createBindGroup(layout, { weight: weight.buffer, sums });
  root.createComputePipeline({ compute: sumRows }).with(group).dispatchWorkgroups(1);
  console.log(`Sums of the rows: ${(await sums.read()).join(", ")}`);
  sums.destroy(); // not root.destroy(): the device does not belong to TypeGPU
} finally {
  await Deno.remove(path);
}
