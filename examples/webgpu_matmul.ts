/**
 * Multiply a vector by a BF16 weight on the GPU: the weight goes from its file to a GPUBuffer, and your own shader
 * reads it there.
 *
 *     deno run -A examples/webgpu_matmul.ts [file tensor]
 *
 * Without arguments it makes a file with a weight of 96 × 160, and removes it at the end. It needs a GPU, or a software
 * adapter such as Debian's mesa-vulkan-drivers.
 */
import { fastsafeOpen, serialize } from "@x/fastsafetensors";

const made = Deno.args.length === 0 ? await makeFile() : null;
const [file, name] = made ? [made, "weight"] : Deno.args as [string, string];
try {
  await using model = await fastsafeOpen(file, { device: "webgpu", names: [name] });
  using weight = await model.getTensor(name);
  const [rows, columns] = weight.shape;
  if (weight.dtype !== "BF16" || weight.shape.length !== 2) throw new Error(`"${name}" is not a BF16 matrix`);
  const vector = Float32Array.from({ length: columns! }, (_, index) => Math.cos(index));
  const product = await multiply(weight.device, weight.views[0]!, vector, rows!);
  console.log(`${name}: BF16 [${weight.shape}] in a buffer of ${weight.buffer.size} bytes`);
  console.log(`product: ${[...product.subarray(0, 3)].map((value) => value.toFixed(3)).join(", ")}, …`);

  // The same on the CPU.
  await using host = await fastsafeOpen(file, { dtype: "F32", names: [name] });
  const elements = (await host.getTensor(name)).toFloat32();
  let worst = 0;
  for (const [row, value] of product.entries()) {
    const expected = vector.reduce((sum, x, column) => sum + x * elements[row * columns! + column]!, 0);
    worst = Math.max(worst, Math.abs(value - expected));
  }
  console.log(`${rows} rows, largest difference to the CPU: ${worst < 1e-3 ? "below 0.001" : worst}`);
} finally {
  if (made) await Deno.remove(made);
}

/** A matrix of packed BF16 times a vector. */
async function multiply(
  device: GPUDevice,
  weight: GPUBufferBinding,
  vector: Float32Array<ArrayBuffer>,
  rows: number,
): Promise<Float32Array> {
  const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const input = device.createBuffer({ size: vector.byteLength, usage: STORAGE | COPY_DST });
  const output = device.createBuffer({ size: 4 * rows, usage: STORAGE | COPY_SRC });
  const result = device.createBuffer({ size: 4 * rows, usage: COPY_DST | MAP_READ });
  device.queue.writeBuffer(input, 0, vector);
  const module = device.createShaderModule({
    code: `
      @group(0) @binding(0) var<storage, read> weight: array<u32>; // two BF16 in a word, the first in its lower half
      @group(0) @binding(1) var<storage, read> vector: array<f32>;
      @group(0) @binding(2) var<storage, read_write> product: array<f32>;

      @compute @workgroup_size(64)
      fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x >= ${rows}u) {
          return;
        }
        var sum = 0.0;
        for (var column = 0u; column < ${vector.length}u; column++) {
          let index = id.x * ${vector.length}u + column;
          let half = select(weight[index / 2u] << 16u, weight[index / 2u] & 0xffff0000u, index % 2u == 1u);
          sum += bitcast<f32>(half) * vector[column]; // a BF16 is the upper half of an F32
        }
        product[id.x] = sum;
      }`,
  });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module } });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [weight, { buffer: input }, { buffer: output }].map((resource, binding) => ({
        binding,
        resource,
      })),
    }),
  );
  pass.dispatchWorkgroups(Math.ceil(rows / 64));
  pass.end();
  encoder.copyBufferToBuffer(output, 0, result, 0, 4 * rows);
  device.queue.submit([encoder.finish()]);
  await result.mapAsync(GPUMapMode.READ);
  const product = new Float32Array(result.getMappedRange().slice(0));
  for (const buffer of [input, output, result]) buffer.destroy();
  return product;
}

/** A file with a weight whose elements are between -1 and 1. */
async function makeFile(): Promise<string> {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const values = Float32Array.from({ length: 96 * 160 }, (_, index) => Math.sin(index));
  const data = Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16);
  await Deno.writeFile(path, serialize({ weight: { dtype: "BF16", shape: [96, 160], data } }));
  return path;
}
