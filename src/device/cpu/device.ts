/**
 * The CPU as a device: tensors in memory that JavaScript owns.
 */
import { OutOfMemoryError, UseAfterCloseError } from "../../base/errors.ts";
import { joinLayout } from "../../format/join.ts";
import type { SliceLayout, SliceSource } from "../../format/slices.ts";
import { tensorBytes } from "../../base/dtype.ts";
import { quote } from "../../base/text.ts";
import { Blocks, type Engine, type HostBlock, type SmallRead } from "../../load/engine.ts";
import { finishInTurns, nextTurn } from "../../base/turn.ts";
import { resultBytes } from "../../load/layout.ts";
import { remoteCuts } from "../../load/remote_cuts.ts";
import { planSteps } from "../../load/plan.ts";
import { Readiness } from "../../load/readiness.ts";
import type { RequestTable, TensorRequest } from "../../load/request.ts";
import type { SourceFile } from "../../files/source.ts";
import { HostTensor } from "../tensors.ts";
import type {
  Device,
  DeviceLoad,
  ExposedBytes,
  IncomingTensor,
  LoadSettings,
  SmallTensor,
} from "../../load/device.ts";
import type { HostElements, Tensor } from "../../load/tensor.ts";
import { exposeHost } from "../host_exchange.ts";
import { RequestCounts } from "../request_counts.ts";

/** Least bytes of a tensor that uses huge pages, and for which the available memory is checked. */
const LARGE = 2 * 2 ** 20;

/**
 * Bytes of the blocks that are allocated before the lanes start, and in each turn of the event loop after that; a larger
 * block is allocated alone. An allocation can start the garbage collector, for each 64 MiB or so.
 */
const FIRST_BYTES = 16 * 2 ** 20, TURN_BYTES = 32 * 2 ** 20;

/** Tensors as typed arrays. */
export class CpuDevice implements Device<HostTensor> {
  readonly name = "cpu";
  readonly #engine: Engine;

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  async start(
    requests: RequestTable,
    files: readonly SourceFile[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<HostTensor>> {
    const requested = await finishInTurns(requests.resultBytesSteps());
    const free = this.#engine.availableMemory();
    // Checked before, because Linux overcommits memory: the OOM killer would end the process later.
    if (free >= 0 && requested > free) throw outOfMemory(requested, free);
    const { blockBytes, maxAllocationBytes, joinsGaps = false } = settings;
    const plan = await finishInTurns(planSteps(requests, {
      blockBytes,
      packSmall: true,
      joinsGaps,
      cut: remoteCuts(files),
      ...maxAllocationBytes !== undefined && { maxAllocationBytes },
    }));
    const { allocations, offsets, byteLengths } = plan.placements;
    const readiness = await finishInTurns(Readiness.steps(plan));
    const counts = await finishInTurns(RequestCounts.steps(plan));
    const blocks = new Blocks();
    const buffers: (HostBlock | null)[] = [];
    this.#allocate(plan.allocations, FIRST_BYTES, buffers, blocks, requested, free);
    const finished = this.#engine.run({ plan, files, blocks, readiness, ...settings });
    // Callers that wait for a tensor get the error, even if the run fails at its start. No caller has to await `done`.
    finished.catch((error) => readiness.fail(error));
    try {
      while (buffers.length < plan.allocations.length) {
        await nextTurn(); // the lanes read already
        if (settings.signal.aborted) {
          blocks.fail(settings.signal.reason);
          break;
        }
        this.#allocate(plan.allocations, TURN_BYTES, buffers, blocks, requested, free);
      }
    } catch (error) {
      blocks.fail(error);
      await finished.catch(() => {});
      throw error;
    }
    return {
      plan,
      readiness,
      finished,
      tensor(request, name) {
        const target = requests.target(request), shape = requests.shape(request);
        const byteLength = byteLengths[request]!;
        if (byteLength === 0) return new HostTensor(name, target, shape, new Uint8Array());
        const block = buffers[allocations[request]!];
        if (!block) {
          throw new UseAfterCloseError(`Cannot get tensor ${quote(name)}: its memory was released`);
        }
        const { buffer, base } = block;
        if (buffer.detached) {
          throw new TypeError(
            `Cannot get tensor ${quote(name)}: the buffer that it shares with its file was transferred`,
          );
        }
        return new HostTensor(
          name,
          target,
          shape,
          new Uint8Array(buffer, base + offsets[request]!, byteLength),
        );
      },
      retire(requests) {
        for (const allocation of counts.retire(requests)) buffers[allocation] = null;
      },
      release: () => void buffers.fill(null), // the garbage collector frees memory that no tensor uses
    };
  }

  loadSmall(
    request: TensorRequest,
    file: SourceFile,
    signal: AbortSignal,
  ): Promise<SmallTensor<HostTensor>> | null {
    const reading = this.#engine.readSmall?.(request, file, signal);
    return reading ? this.#castSmall(request, reading) : null;
  }

  async #castSmall(
    request: TensorRequest,
    reading: SmallRead | Promise<SmallRead>,
  ): Promise<SmallTensor<HostTensor>> {
    const { name, shape, dtype, target } = request;
    const { bytes, way } = await reading;
    if (dtype === target) return { tensor: new HostTensor(name, target, shape, bytes), way };
    const landed = this.#allocateOne(resultBytes(request));
    await this.#engine.operations.cast(bytes, dtype, landed, target);
    return { tensor: new HostTensor(name, target, shape, landed), way };
  }

  fromHost({ name, dtype, shape, bytes }: HostElements): Promise<HostTensor> {
    return Promise.resolve(new HostTensor(name, dtype, shape, bytes));
  }

  from(tensor: Tensor): Promise<HostTensor> {
    return tensor.copyToHost() as Promise<HostTensor>; // every tensor of this package returns a HostTensor
  }

  async slice(tensor: HostTensor, layout: SliceLayout): Promise<HostTensor> {
    const target = this.#allocateOne(layout.byteLength);
    await this.#engine.operations.gather(tensor.bytes, layout, target);
    return new HostTensor(tensor.name, tensor.dtype, layout.shape, target);
  }

  expose({ bytes }: HostTensor): Promise<ExposedBytes> {
    return Promise.resolve(exposeHost(bytes, this.#engine.operations));
  }

  receive({ name, dtype, shape }: SliceSource): Promise<IncomingTensor<HostTensor>> {
    return Promise.try(() => {
      const byteLength = tensorBytes(dtype, shape);
      const memory = this.#allocateOne(byteLength);
      const finish = () => Promise.resolve(new HostTensor(name, dtype, shape, memory));
      return { memory, finish, [Symbol.dispose]() {} };
    });
  }

  async concatenate(
    name: string,
    tensors: readonly HostTensor[],
    dimension: number,
  ): Promise<HostTensor> {
    const { shape, byteLength, rows } = joinLayout(tensors, dimension);
    const target = this.#allocateOne(byteLength);
    if (byteLength > 0) await this.#engine.operations.join(tensors.map(({ bytes }) => bytes), rows, target);
    return new HostTensor(name, tensors[0]!.dtype, shape, target);
  }

  /** Memory for one tensor. */
  #allocateOne(byteLength: number): Uint8Array<ArrayBuffer> {
    if (byteLength < LARGE) return new Uint8Array(byteLength);
    const free = this.#engine.availableMemory();
    if (free >= 0 && byteLength > free) throw outOfMemory(byteLength, free);
    try {
      return this.#engine.operations.allocate(byteLength);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw outOfMemory(byteLength, free, error);
    }
  }

  /** Allocates the next blocks: one, and more while they have at most `bytes` together. */
  #allocate(
    byteLengths: readonly number[],
    bytes: number,
    buffers: (HostBlock | null)[],
    blocks: Blocks,
    requested: number,
    free: number,
  ): void {
    try {
      for (let left = bytes; buffers.length < byteLengths.length;) {
        const length = byteLengths[buffers.length]!;
        if (length > left && left < bytes) return;
        const block = this.#engine.allocate(length);
        buffers.push(block);
        blocks.add(block);
        left -= length;
      }
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw outOfMemory(requested, free, error);
    }
  }
}

function outOfMemory(requested: number, free: number, cause?: Error): OutOfMemoryError {
  const available = free >= 0 ? `, ${free} are available` : "";
  return new OutOfMemoryError(
    `Cannot load: ${requested} bytes of memory are needed${available}`,
    requested,
    free,
    { cause, advice: "load fewer names, or open with lazy: true" },
  );
}
