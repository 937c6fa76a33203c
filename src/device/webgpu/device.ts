/**
 * A GPU that WebGPU drives as a device: tensors in GPUBuffers.
 *
 * Bytes reach a GPUBuffer through the host only: WebGPU has no way to import memory, nor to let storage write into a
 * buffer by itself.
 */
import { DeviceError, OutOfMemoryError } from "../../base/errors.ts";
import type { SliceLayout, SliceSource } from "../../format/slices.ts";
import { tensorBytes } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";
import type { Engine } from "../../load/engine.ts";
import { STEP } from "../../base/steps.ts";
import { finishInTurns, Turn } from "../../base/turn.ts";
import { resultBytes } from "../../load/layout.ts";
import { planSteps } from "../../load/plan.ts";
import { Readiness } from "../../load/readiness.ts";
import type { TensorRequest } from "../../load/request.ts";
import type { SourceFile } from "../../files/source.ts";
import { holdWebGpuTensor, newWebGpuTensor, type WebGpuTensor } from "./tensor.ts";
import type {
  Device,
  DeviceLoad,
  ExposedBytes,
  HostElements,
  IncomingTensor,
  LoadSettings,
} from "../../load/device.ts";
import { exposeHost } from "../host_exchange.ts";
import { LoadMemory } from "../load_memory.ts";
import { Retirement } from "../retirement.ts";
import { divideStaging } from "./chunk_reader.ts";
import { Gpu } from "./gpu.ts";
import { GpuMemory } from "./memory.ts";
import { checkSize, type GpuResult, joinTensors, sliceTensor, writeTensor } from "./operations.ts";
import { runUpload } from "./upload.ts";

/** How a WebGPU device loads. */
export interface WebGpuSettings {
  /** Flags of the tensors' buffers besides those that every one needs. */
  readonly gpuBufferUsage: number;
}

/** Bytes of a buffer that tensors share at most; a larger tensor has one of its own. Smaller ones are freed sooner. */
const SHARED_BUFFER = 2 * 2 ** 30;

/** Tensors in GPUBuffers. */
export class WebGpuDevice implements Device<WebGpuTensor> {
  readonly name = "webgpu";
  readonly castsSubByte = true;
  readonly #engine: Engine;
  readonly #gpu: Gpu;
  readonly #usage: number;

  private constructor(engine: Engine, gpu: Gpu, usage: number) {
    this.#engine = engine;
    this.#gpu = gpu;
    this.#usage = usage;
  }

  /**
   * Takes the user's device, or the one of this isolate.
   *
   * @throws {DeviceError} if there is none, or it was lost
   */
  static async find(
    device: "webgpu" | GPUDevice,
    engine: Engine,
    settings: WebGpuSettings,
  ): Promise<WebGpuDevice> {
    const gpu = device === "webgpu" ? await Gpu.shared() : Gpu.of(device);
    gpu.lost.throwIfAborted();
    return new WebGpuDevice(engine, gpu, settings.gpuBufferUsage);
  }

  async start(
    requests: readonly TensorRequest[],
    files: readonly SourceFile[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<WebGpuTensor>> {
    const turn = new Turn();
    const gpu = this.#gpu;
    for (const [index, request] of requests.entries()) { // before there is a plan: a huge tensor's is huge itself
      if (index % STEP === 0) await turn.pause();
      checkSize(gpu, resultBytes(request), `load tensor ${quote(request.name)} to the GPU`);
    }
    const staging = divideStaging(settings);
    const plan = await finishInTurns(planSteps(requests, {
      blockBytes: staging.blockBytes,
      alignment: gpu.alignment,
      maxAllocationBytes: Math.min(gpu.maxBufferBytes, SHARED_BUFFER),
    }));
    const readiness = await finishInTurns(Readiness.steps(plan));
    const retirement = await finishInTurns(Retirement.steps(plan));
    await turn.pause();
    const memories = await this.#allocate(plan.allocations);
    await turn.pause();
    const held = new LoadMemory(plan, memories, retirement);
    const finished = runUpload({
      gpu,
      engine: this.#engine,
      plan,
      alignment: gpu.alignment,
      files,
      memories,
      readiness,
      settings,
      staging,
    });
    // Whoever waits for a tensor is told, however early the run ended; nobody has to wait for the whole.
    finished.catch((error) => {
      readiness.fail(error);
      // What the GPU has of it is worth nothing any more.
      if (error instanceof DeviceError || error instanceof OutOfMemoryError) held.release();
    });
    return {
      plan,
      readiness,
      finished,
      tensor(request) {
        gpu.lost.throwIfAborted();
        return newWebGpuTensor(...held.tensor(request));
      },
      retire: (requests) => held.retire(requests),
      release: () => held.release(),
    };
  }

  /** The buffers of a load. */
  #allocate(byteLengths: readonly number[]): Promise<GpuMemory[]> {
    const [gpu, engine] = [this.#gpu, this.#engine];
    // What a software adapter writes to for the first time is given to it page by page, which takes longer than to
    // write it; memory of a real GPU is not the system's to page.
    const around = gpu.isSoftware ? engine.withHugePages?.bind(engine) : undefined;
    return GpuMemory.allocate(gpu, byteLengths, "load", this.#usage, around);
  }

  async fromHost(tensor: HostElements): Promise<WebGpuTensor> {
    return newWebGpuTensor(...await writeTensor(this.#gpu, tensor, this.#usage));
  }

  async slice(tensor: WebGpuTensor, layout: SliceLayout): Promise<WebGpuTensor> {
    const [memory, placed] = holdWebGpuTensor(tensor, "slice");
    try {
      return newWebGpuTensor(...await sliceTensor(memory, placed, layout));
    } finally {
      memory.drop();
    }
  }

  async expose(tensor: WebGpuTensor): Promise<ExposedBytes> {
    return exposeHost((await tensor.copyToHost()).bytes, this.#engine.operations);
  }

  receive({ name, dtype, shape }: SliceSource): Promise<IncomingTensor<WebGpuTensor>> {
    return Promise.try(() => {
      const memory = new Uint8Array(tensorBytes(dtype, shape)); // no process group can write to a GPUBuffer
      const finish = () => this.fromHost({ name, dtype, shape, bytes: memory });
      return { memory, finish, [Symbol.dispose]() {} };
    });
  }

  async concatenate(
    name: string,
    tensors: readonly WebGpuTensor[],
    dimension: number,
  ): Promise<WebGpuTensor> {
    const sources: GpuResult[] = [];
    try {
      for (const tensor of tensors) sources.push(holdWebGpuTensor(tensor, "join"));
      return newWebGpuTensor(...await joinTensors(name, sources, dimension));
    } finally {
      for (const [memory] of sources) memory.drop();
    }
  }
}
