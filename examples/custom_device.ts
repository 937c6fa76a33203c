/**
 * Load tensors to a device that this package does not have: here to the memory of a WebAssembly module.
 *
 *     deno run -A examples/custom_device.ts
 *
 * A device is written inside of this repository: its interface, in src/load/device.ts, is not part of the
 * package's public API. This one loads through the CPU: a tensor is copied after it has landed there. A device without
 * that copy works as src/device/webgpu/upload.ts does.
 */
import { type DeviceOption, type DType, HostTensor, serialize, type Tensor } from "@x/fastsafetensors";
import { CpuDevice } from "../src/device/cpu/device.ts";
import type { Device, DeviceLoad, ExposedBytes, IncomingTensor, LoadSettings } from "../src/load/device.ts";
import type { SliceLayout, SliceSource } from "../src/format/slices.ts";
import { selectEngine } from "../src/load/native/select.ts";
import type { SourceAndDevice } from "../src/deno/select_source_and_device.ts";
import { openModel } from "../src/deno/open_model.ts";
import type { CheckedOpenOptions } from "../src/deno/options.ts";
import type { RequestTable } from "../src/load/request.ts";
import { selectDevice } from "../src/deno/select_device.ts";
import { selectSource } from "../src/deno/select_source.ts";
import type { SourceFile } from "../src/files/source.ts";

const PAGE = 64 * 1024;

/** A tensor in the memory of a WebAssembly module. */
class WasmTensor implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The address of its first byte. */
  readonly pointer: number;
  readonly #device: WasmDevice;

  constructor(device: WasmDevice, like: SliceSource & { byteLength: number }, pointer: number) {
    this.name = like.name;
    this.dtype = like.dtype;
    this.shape = like.shape;
    this.byteLength = like.byteLength;
    this.pointer = pointer;
    this.#device = device;
  }

  /** A copy outside the module: a view of its memory becomes invalid when the memory grows. */
  toHost(): HostTensor {
    const bytes = new Uint8Array(this.#device.memory.buffer, this.pointer, this.byteLength).slice();
    return new HostTensor(this.name, this.dtype, this.shape, bytes);
  }

  copyToHost(): Promise<HostTensor> {
    return Promise.resolve(this.toHost());
  }

  copy(): Promise<WasmTensor> {
    return Promise.resolve(this.#device.place(this.toHost()));
  }

  async to({ dtype = this.dtype, device }: { dtype?: DType; device?: DeviceOption }): Promise<Tensor> {
    if (device !== undefined) return await this.toHost().to({ dtype, device });
    return dtype === this.dtype
      ? this.named(this.name)
      : this.#device.place(await this.toHost().to({ dtype }));
  }

  named(name: string): WasmTensor {
    const { dtype, shape, byteLength } = this;
    return new WasmTensor(this.#device, { name, dtype, shape, byteLength }, this.pointer);
  }

  /** Does nothing: the memory of a module cannot shrink. */
  [Symbol.dispose](): void {}
}

/** The memory of a WebAssembly module as a device. Tensors stay as long as the memory does. */
class WasmDevice implements Device<WasmTensor> {
  readonly name = "wasm";
  readonly memory: WebAssembly.Memory;
  readonly #cpu: CpuDevice;
  #used = 0;

  constructor(memory: WebAssembly.Memory, cpu: CpuDevice) {
    this.memory = memory;
    this.#cpu = cpu;
  }

  /** Copies a tensor in. */
  place(tensor: HostTensor): WasmTensor {
    const pointer = this.#used;
    this.#used += Math.ceil(tensor.byteLength / 64) * 64; // aligned for every dtype and for SIMD
    const missing = Math.ceil((this.#used - this.memory.buffer.byteLength) / PAGE);
    if (missing > 0) this.memory.grow(missing);
    new Uint8Array(this.memory.buffer, pointer).set(tensor.bytes);
    return new WasmTensor(this, tensor, pointer);
  }

  async start(
    requests: RequestTable,
    files: readonly SourceFile[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<WasmTensor>> {
    const load = await this.#cpu.start(requests, files, settings);
    const placed = new Map<number, WasmTensor>();
    return {
      ...load,
      tensor: (request, name) => {
        const tensor = placed.get(request) ?? this.place(load.tensor(request, name));
        placed.set(request, tensor);
        return tensor.named(name);
      },
    };
  }

  async fromHost(tensor: HostTensor): Promise<WasmTensor> {
    return await Promise.try(() => this.place(tensor));
  }

  async from(tensor: Tensor): Promise<WasmTensor> {
    if (tensor instanceof WasmTensor) return tensor;
    return this.place(await this.#cpu.from(tensor));
  }

  async slice(tensor: WasmTensor, layout: SliceLayout): Promise<WasmTensor> {
    return this.place(await this.#cpu.slice(tensor.toHost(), layout));
  }

  async expose(tensor: WasmTensor): Promise<ExposedBytes> {
    return await this.#cpu.expose(tensor.toHost());
  }

  async receive(tensor: SliceSource): Promise<IncomingTensor<WasmTensor>> {
    const incoming = await this.#cpu.receive(tensor);
    return { ...incoming, finish: async () => this.place(await incoming.finish()) };
  }

  async concatenate(name: string, tensors: readonly WasmTensor[], dimension: number): Promise<WasmTensor> {
    return this.place(await this.#cpu.concatenate(name, tensors.map((each) => each.toHost()), dimension));
  }
}

/** A module with one function: `sum(pointer, count)`, of 32-bit floats. */
const SUM = Uint8Array.fromHex(
  "0061736d0100000001070160027f7f017d020d01016d066d656d6f7279020001030201000707010373756d00000a2d01" +
    "2b01017d024003402001450d01200220002a0200922102200041046a2100200141016b21010c000b0b20020b",
);

/** Finds the engine, source and device for the model. */
async function selectSourceAndDevice(options: CheckedOpenOptions): Promise<SourceAndDevice<WasmTensor>> {
  const engine = await selectEngine();
  return {
    device: new WasmDevice(memory, new CpuDevice(engine)),
    findDevice: (name) => selectDevice(name, engine, options),
    source: await selectSource(engine, options),
    notes: engine.notes,
  };
}

const memory = new WebAssembly.Memory({ initial: 1 });
const { instance } = await WebAssembly.instantiate(SUM, { m: { memory } });
const sum = instance.exports["sum"] as (pointer: number, count: number) => number;

const path = await Deno.makeTempFile({ suffix: ".safetensors" });
try {
  const rows = Float32Array.from({ length: 300 * 64 }, (_, index) => index % 64);
  const half = new Float16Array([0.5, 1, 1.5]);
  const file = serialize({
    rows: { dtype: "F32", shape: [300, 64], data: rows },
    half: { dtype: "F16", shape: [3], data: half },
  });
  await Deno.writeFile(path, file);

  await using model = await openModel(path, { dtype: "F32" }, {
    call: "openModel()",
    select: selectSourceAndDevice,
  });
  for (const name of model.keys().sort()) {
    const tensor = await model.getTensor(name);
    console.log(
      `${name}: ${tensor.dtype} [${tensor.shape}], sum ${sum(tensor.pointer, tensor.byteLength / 4)}`,
    );
  }
  const row = await model.getSlice("rows", 1);
  console.log(`rows[1]: sum ${sum(row.pointer, 64)}`);
  console.log(`${model.stats().device}: ${memory.buffer.byteLength / PAGE} pages`);
} finally {
  await Deno.remove(path);
}
