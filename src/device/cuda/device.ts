/**
 * A CUDA GPU as a device: tensors as device pointers.
 */
import { findCuda, noSuchDevice } from "../../../ffi/cuda.ts";
import { releasesDone } from "../../../ffi/cuda_release.ts";
import { gatherDevice, scatterDevice, writeDevice } from "../../../ffi/cuda_tensor.ts";
import { openLibrary } from "../../../ffi/library.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { DeviceError } from "../../base/errors.ts";
import { joinLayout } from "../../format/join.ts";
import type { SliceLayout, SliceSource } from "../../format/slices.ts";
import { tensorBytes } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";
import { finishInTurns } from "../../base/turn.ts";
import { remoteCuts } from "../../load/remote_cuts.ts";
import { planSteps } from "../../load/plan.ts";
import { Readiness } from "../../load/readiness.ts";
import type { RequestTable } from "../../load/request.ts";
import type { LaneFile } from "../../files/native/native_file.ts";
import { CudaTensor, newCudaTensor, useCudaTensor } from "../tensors.ts";
import { CudaMemory } from "./memory.ts";
import { CudaRun, type CudaSettings } from "./run.ts";
import type { Device, DeviceLoad, ExposedBytes, IncomingTensor, LoadSettings } from "../../load/device.ts";
import type { HostElements, Tensor } from "../../load/tensor.ts";
import { LoadMemory } from "../load_memory.ts";
import { RequestCounts } from "../request_counts.ts";
import type { TensorDescription } from "../tensor_handle.ts";

/** The alignment of every tensor in bytes, which vector loads of any width require. */
const ALIGNMENT = 16;

/** Tensors as device pointers. */
export class CudaDevice implements Device<CudaTensor, LaneFile> {
  readonly name: `cuda:${number}`;
  readonly #shim: Shim;
  readonly #index: number;
  readonly #settings: CudaSettings;

  private constructor(shim: Shim, index: number, settings: CudaSettings) {
    this.name = `cuda:${index}`;
    this.#shim = shim;
    this.#index = index;
    this.#settings = settings;
  }

  /**
   * Finds a device.
   *
   * @throws {DeviceError} if this machine does not have the device; its message lists what it has
   */
  static async find(index: number, settings: CudaSettings): Promise<CudaDevice> {
    const library = await openLibrary();
    const action = `Cannot load to device "cuda:${index}"`;
    if (!library.shim) {
      throw new DeviceError(`${action}: that needs the native library: ${library.reason}`, {
        library: "cudart",
      });
    }
    const { devices, reason, code, codeName } = await findCuda(library.shim);
    if (devices === 0) {
      throw new DeviceError(`${action}: no GPU can be used: ${reason}`, {
        library: "cudart",
        code,
        codeName,
      });
    }
    if (index >= devices) throw noSuchDevice(index, devices);
    return new CudaDevice(library.shim, index, settings);
  }

  async start(
    requests: RequestTable,
    files: readonly LaneFile[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<CudaTensor>> {
    const { blockBytes } = settings;
    const plan = await finishInTurns(
      planSteps(requests, { blockBytes, alignment: ALIGNMENT, cut: remoteCuts(files) }),
    );
    const readiness = await finishInTurns(Readiness.steps(plan));
    const counts = await finishInTurns(RequestCounts.steps(plan));
    await releasesDone(this.#shim); // memory to be freed counts as used until it is free
    const run = await CudaRun.prepare(this.#shim, this.#index, this.#settings, plan, files, settings);
    const action = `load to device ${quote(this.name)}`;
    const { memories, finished } = await run.start(this.#index, action, readiness);
    // Callers that wait for a tensor get the error, even if the run fails at its start. No caller has to await `done`.
    finished.catch((error) => readiness.fail(error));
    const held = new LoadMemory(plan, memories, counts);
    return {
      plan,
      readiness,
      finished,
      tensor: (request, name) => newCudaTensor(...held.tensor(request, name)),
      retire: (requests) => held.retire(requests),
      release: () => held.release(),
    };
  }

  fromHost({ name, dtype, shape, bytes }: HostElements): Promise<CudaTensor> {
    const { byteLength } = bytes;
    const action = `copy tensor ${quote(name)} to device ${quote(this.name)}`;
    const fill = (target: CudaMemory) => writeDevice(this.#shim, target, bytes, action);
    return this.#filled({ name, dtype, shape, byteLength }, action, fill);
  }

  async from(tensor: Tensor): Promise<CudaTensor> {
    if (tensor instanceof CudaTensor) return await tensor.to({ device: this.name });
    using onHost = await tensor.copyToHost();
    return await this.fromHost(onHost);
  }

  slice(tensor: CudaTensor, layout: SliceLayout): Promise<CudaTensor> {
    return useCudaTensor(tensor, "slice", ({ device, address }) => {
      const { name, dtype } = tensor;
      const { shape, byteLength, run, levels } = layout;
      const source = { device, address: address + BigInt(layout.offset) };
      const action = `slice tensor ${quote(name)}`;
      const fill = (target: CudaMemory) => gatherDevice(this.#shim, target, source, run, levels, action);
      return this.#filled({ name, dtype, shape, byteLength }, action, fill);
    });
  }

  expose(tensor: CudaTensor): Promise<ExposedBytes> {
    return Promise.try(() => this.#expose(tensor.named(tensor.name)));
  }

  async receive({ name, dtype, shape }: SliceSource): Promise<IncomingTensor<CudaTensor>> {
    const byteLength = tensorBytes(dtype, shape);
    const action = `receive tensor ${quote(name)} on device ${quote(this.name)}`;
    const allocation = await CudaMemory.allocateOne(this.#shim, this.#index, byteLength, action);
    let isOwned = true;
    return {
      memory: { devicePointer: allocation.address, byteLength, device: this.#index },
      finish: () => {
        isOwned = false;
        return Promise.resolve(newCudaTensor(allocation, { name, dtype, shape, byteLength, offset: 0 }));
      },
      [Symbol.dispose]() {
        if (isOwned) allocation.drop();
      },
    };
  }

  /** Takes the ownership of the handle. */
  #expose(tensor: CudaTensor): ExposedBytes {
    const { devicePointer, byteLength } = tensor;
    return {
      memory: { devicePointer, byteLength, device: this.#index },
      gather: async (slices) => this.#expose(await this.#gather(tensor, slices)),
      [Symbol.dispose]: () => tensor[Symbol.dispose](),
    };
  }

  /** Copies slices of a tensor into one contiguous tensor. */
  #gather(tensor: CudaTensor, slices: readonly SliceLayout[]): Promise<CudaTensor> {
    const byteLength = slices.reduce((sum, slice) => sum + slice.byteLength, 0);
    const action = `gather parts of tensor ${quote(tensor.name)}`;
    return useCudaTensor(tensor, "share", ({ device, address }) => {
      const fill = async (target: CudaMemory) => {
        let at = 0;
        for (const { offset, byteLength, run, levels } of slices) {
          const to = { device, address: target.address + BigInt(at) };
          const from = { device, address: address + BigInt(offset) };
          await gatherDevice(this.#shim, to, from, run, levels, action);
          at += byteLength;
        }
      };
      const init = { name: tensor.name, dtype: "U8", shape: [byteLength], byteLength } as const;
      return this.#filled(init, action, fill);
    });
  }

  async concatenate(name: string, tensors: readonly CudaTensor[], dimension: number): Promise<CudaTensor> {
    const { shape, byteLength, rows } = joinLayout(tensors, dimension);
    const { dtype } = tensors[0]!;
    const action = `join tensors to ${quote(name)}`;
    const fill = async ({ device, address }: CudaMemory) => {
      let at = 0;
      for (const tensor of tensors) {
        const width = tensor.byteLength / rows;
        const target = { device, address: address + BigInt(at) };
        if (width > 0) {
          await useCudaTensor(
            tensor,
            "join",
            (source) => scatterDevice(this.#shim, target, byteLength / rows, source, width, rows, action),
          );
        }
        at += width;
      }
    };
    return await this.#filled({ name, dtype, shape, byteLength }, action, fill);
  }

  /** Makes a tensor in new memory of this device after the memory has been filled. */
  async #filled(
    tensor: TensorDescription,
    action: string,
    fill: (target: CudaMemory) => Promise<void>,
  ): Promise<CudaTensor> {
    const memory = await CudaMemory.filled(this.#shim, this.#index, tensor.byteLength, action, fill);
    return newCudaTensor(memory, { ...tensor, offset: 0 });
  }
}
