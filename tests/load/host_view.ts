/**
 * The package's API for a GPU, with tensors returned in host memory: tests for typed arrays then also test device
 * memory.
 */
import {
  type CudaTensor,
  type DeviceOption,
  fastsafeOpen as open,
  type HostTensor,
  type SafeTensorsModel,
} from "../../mod.ts";
import {
  type FilesBuffer,
  ParallelLoader as Loader,
  SafeTensorsFileLoader as FileLoader,
} from "../../src/compat/mod.ts";
import type { LoadApi } from "./api_in_use.ts";

/** A tensor on any device. */
type DeviceTensor = CudaTensor;

/** Copies a tensor to host memory and closes the original. */
async function toHost(tensor: DeviceTensor): Promise<HostTensor> {
  using held = tensor;
  return await held.copyToHost();
}

/** Copies tensors on a device to host memory; returns other values unchanged. */
async function view(result: unknown): Promise<unknown> {
  if (result instanceof Map) {
    return new Map(
      await Array.fromAsync(result, async ([name, tensor]) => [name, await view(tensor)] as const),
    );
  }
  if (isOnDevice(result)) return await toHost(result);
  if (typeof result !== "object" || result === null || !Object.values(result).some(isOnDevice)) return result;
  const pairs = Object.entries(result).map(async ([name, tensor]) => [name, await view(tensor)] as const);
  return Object.fromEntries(await Promise.all(pairs));
}

function isOnDevice(value: unknown): value is DeviceTensor {
  return typeof value === "object" && value !== null && "copyToHost" in value;
}

/** The same object; its methods return tensors in host memory. */
function viewOf<T extends object>(object: T): T {
  return new Proxy(object, {
    get(target, property) {
      if (property === Symbol.asyncIterator || property === "entries") {
        return async function* () {
          for await (const [name, tensor] of target as AsyncIterable<[string, DeviceTensor]>) {
            yield [name, await toHost(tensor)];
          }
        };
      }
      const value = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        const result = value.apply(target, args);
        return result instanceof Promise ? result.then(view) : result;
      };
    },
  });
}

/** The API that loads to a GPU. */
export function hostViewOf(gpu: Exclude<DeviceOption, "cpu">): LoadApi {
  const device = gpu as "cuda";
  return {
    async fastsafeOpen(files, options) {
      return viewOf(await open(files, { device, ...options })) as object as SafeTensorsModel<HostTensor>;
    },
    SafeTensorsFileLoader: class extends FileLoader<"cuda"> {
      constructor(group: ConstructorParameters<typeof FileLoader>[0] = null, options: object = {}) {
        super(group, { device, ...options });
      }
      override async copyFilesToDevice(options = {}): Promise<FilesBuffer<DeviceTensor>> {
        return viewOf(await super.copyFilesToDevice(options));
      }
    } as object as LoadApi["SafeTensorsFileLoader"],
    ParallelLoader: class extends Loader<"cuda"> {
      constructor(
        group: ConstructorParameters<typeof Loader>[0],
        files: ConstructorParameters<typeof Loader>[1],
        options: object = {},
      ) {
        super(group, files, { device, ...options });
      }
      override async *iterateWeights(): AsyncGenerator<[string, DeviceTensor], void, void> {
        for await (const [name, tensor] of super.iterateWeights()) {
          yield [name, await toHost(tensor) as object as DeviceTensor];
        }
      }
    } as object as LoadApi["ParallelLoader"],
  };
}
