/**
 * A WebGPU GPU as a device: tensors in GPUBuffers.
 *
 * All bytes pass through host memory: WebGPU cannot import memory, and storage cannot write to a GPUBuffer.
 */
import { DeviceError, OutOfMemoryError } from "../../base/errors.ts";
import type { SliceLayout, SliceSource } from "../../format/slices.ts";
import { tensorBytes } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";
import type { Engine } from "../../load/engine.ts";
import { STEP } from "../../base/steps.ts";
import { finishInTurns, Turn } from "../../base/turn.ts";
import { remoteCuts } from "../../load/remote_cuts.ts";
import { planSteps } from "../../load/plan.ts";
import { Readiness } from "../../load/readiness.ts";
import type { RequestTable } from "../../load/request.ts";
import type { SourceFile } from "../../files/source.ts";
import { newWebGpuTensor, referenceWebGpuTensor, WebGpuTensor } from "../tensors.ts";
import type { Device, DeviceLoad, ExposedBytes, IncomingTensor, LoadSettings } from "../../load/device.ts";
import type { HostElements, Tensor } from "../../load/tensor.ts";
import { exposeHost } from "../host_exchange.ts";
import { LoadMemory } from "../load_memory.ts";
import { RequestCounts } from "../request_counts.ts";
import { divideStaging } from "./chunk_reader.ts";
import { Gpu } from "./gpu.ts";
import { GpuMemory } from "./memory.ts";
import { checkSize, type GpuResult, joinTensors, sliceTensor, writeTensor } from "./operations.ts";
import { runUpload } from "./upload.ts";

/** Settings of loads to WebGPU. */
export interface WebGpuSettings {
  /** Usage flags of the tensors' buffers in addition to the required ones. */
  readonly gpuBufferUsage: number;
}

/** Largest buffer that tensors share, in bytes; a larger tensor has a separate one. Smaller buffers are freed sooner. */
const SHARED_BUFFER = 2 * 2 ** 30;

/** Tensors in GPUBuffers. */
export class WebGpuDevice implements Device<WebGpuTensor> {
  readonly name = "webgpu";
  readonly castsSubByte = true;
  readonly notes: readonly string[];
  readonly #engine: Engine;
  readonly #gpu: Gpu;
  readonly #usage: number;

  private constructor(engine: Engine, gpu: Gpu, usage: number) {
    this.#engine = engine;
    this.#gpu = gpu;
    this.#usage = usage;
    this.notes = gpu.isSoftware
      ? [`WebGPU runs on the processor: ${gpu.device.adapterInfo.description} is a software adapter`]
      : [];
  }

  /**
   * Uses the device of the user, or the one of this isolate.
   *
   * @throws {DeviceError} if there is no device, or it was lost
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
    requests: RequestTable,
    files: readonly SourceFile[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<WebGpuTensor>> {
    const turn = new Turn();
    const gpu = this.#gpu;
    for (let row = 0; row < requests.size; row++) { // before the plan is made: the plan of a huge tensor is huge
      if (row % STEP === 0) await turn.pause();
      const byteLength = requests.resultBytes(row);
      if (byteLength <= gpu.maxBufferBytes) continue;
      checkSize(gpu, byteLength, `load tensor ${quote(requests.name(row))} to the GPU`);
    }
    const staging = divideStaging(settings);
    const plan = await finishInTurns(planSteps(requests, {
      blockBytes: staging.blockBytes,
      alignment: gpu.alignment,
      cut: remoteCuts(files),
      maxAllocationBytes: Math.min(gpu.maxBufferBytes, SHARED_BUFFER),
    }));
    const readiness = await finishInTurns(Readiness.steps(plan));
    const counts = await finishInTurns(RequestCounts.steps(plan));
    await turn.pause();
    const memories = await this.#allocate(plan.allocations);
    await turn.pause();
    const held = new LoadMemory(plan, memories, counts);
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
    // Callers that wait for a tensor get the error, even if the run fails at its start. No caller has to await `done`.
    finished.catch((error) => {
      readiness.fail(error);
      // The buffers of a failed load are incomplete.
      if (error instanceof DeviceError || error instanceof OutOfMemoryError) held.release();
    });
    return {
      plan,
      readiness,
      finished,
      tensor(request, name) {
        gpu.lost.throwIfAborted();
        return newWebGpuTensor(...held.tensor(request, name));
      },
      retire: (requests) => held.retire(requests),
      release: () => held.release(),
    };
  }

  /** The buffers of a load. */
  #allocate(byteLengths: readonly number[]): Promise<GpuMemory[]> {
    const [gpu, engine] = [this.#gpu, this.#engine];
    // On a software adapter the first write to each page of a buffer makes the system allocate it, which takes longer than
    // the write; huge pages avoid this. The memory of a real GPU does not have pages of the system.
    const around = gpu.isSoftware ? engine.withHugePages?.bind(engine) : undefined;
    return GpuMemory.allocate(gpu, byteLengths, "load", this.#usage, around);
  }

  async fromHost(tensor: HostElements): Promise<WebGpuTensor> {
    return newWebGpuTensor(...await writeTensor(this.#gpu, tensor, this.#usage));
  }

  async from(tensor: Tensor): Promise<WebGpuTensor> {
    if (tensor instanceof WebGpuTensor && tensor.device === this.#gpu.device) {
      return tensor.named(tensor.name);
    }
    using onHost = await tensor.copyToHost();
    return await this.fromHost(onHost);
  }

  async slice(tensor: WebGpuTensor, layout: SliceLayout): Promise<WebGpuTensor> {
    const [memory, placed] = referenceWebGpuTensor(tensor, "slice");
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
      for (const tensor of tensors) sources.push(referenceWebGpuTensor(tensor, "join"));
      return newWebGpuTensor(...await joinTensors(name, sources, dimension));
    } finally {
      for (const [memory] of sources) memory.drop();
    }
  }
}
