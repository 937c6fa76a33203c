/**
 * Runs kernels: each reads one buffer, writes another, and has a few words of parameters.
 */
import type { Gpu } from "./gpu.ts";

/** Invocations of one workgroup of every kernel. */
export const WORKGROUP = 64;

/** Most words of parameters of a kernel. */
export const PARAMETER_WORDS = 64;

/** The start of every kernel: its bindings, and its parameters as `parameter(index)`. */
export const PREAMBLE = `
@group(0) @binding(0) var<storage, read> input: array<u32>;
@group(0) @binding(1) var<storage, read_write> output: array<u32>;
@group(0) @binding(2) var<uniform> parameters: array<vec4u, ${PARAMETER_WORDS / 4}>;

fn parameter(index: u32) -> u32 {
  return parameters[index / 4u][index % 4u];
}
`;

/** One run of a kernel. */
export interface Dispatch {
  /** The kernel. */
  readonly pipeline: GPUComputePipeline;
  /** The buffer that it reads. */
  readonly source: GPUBufferBinding;
  /** The buffer that it writes. Words that it writes in part keep their other bits. */
  readonly target: GPUBufferBinding;
  /** At most {@linkcode PARAMETER_WORDS} words. */
  readonly parameters: readonly number[];
  /** Number of invocations. */
  readonly invocations: number;
}

/** Bytes from one set of parameters to the next: a multiple of every device's alignment. */
const STRIDE = 4 * PARAMETER_WORDS;

/** Sets of parameters in the buffer: most dispatches of one submission. */
const SETS = 64;

/** Runs dispatches in order; each one can read the results of earlier ones. */
export class Dispatcher implements Disposable {
  readonly #gpu: Gpu;
  readonly #buffer: GPUBuffer;
  readonly #words = new Uint32Array(SETS * PARAMETER_WORDS);

  /** Makes the buffer of its parameters: call it within {@linkcode Gpu.attempt}. */
  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#buffer = gpu.device.createBuffer({
      size: SETS * STRIDE,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /** Submits dispatches to the queue: call it within {@linkcode Gpu.attempt}. */
  run(dispatches: Iterable<Dispatch>): void {
    let batch: Dispatch[] = [];
    for (const dispatch of dispatches) {
      batch.push(dispatch);
      if (batch.length < SETS) continue;
      this.#submit(batch);
      batch = [];
    }
    if (batch.length > 0) this.#submit(batch);
  }

  /** Frees the buffer after the device no longer uses it. */
  [Symbol.dispose](): void {
    this.#buffer.destroy();
  }

  #submit(batch: readonly Dispatch[]): void {
    const { device } = this.#gpu;
    batch.forEach(({ parameters }, set) => this.#words.set(parameters, set * PARAMETER_WORDS));
    // The queue runs this after earlier submissions, which can still need the old parameters.
    device.queue.writeBuffer(this.#buffer, 0, this.#words, 0, batch.length * PARAMETER_WORDS);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const [set, { pipeline, source, target, invocations }] of batch.entries()) {
      const parameters = { buffer: this.#buffer, offset: set * STRIDE, size: STRIDE };
      pass.setPipeline(pipeline);
      pass.setBindGroup(
        0,
        device.createBindGroup({
          layout: pipeline.getBindGroupLayout(0),
          entries: [source, target, parameters].map((resource, binding) => ({ binding, resource })),
        }),
      );
      pass.dispatchWorkgroups(Math.ceil(invocations / WORKGROUP));
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  }
}
