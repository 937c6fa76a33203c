/**
 * Loads tensors from safetensors files to host memory, CUDA GPUs or WebGPU, and saves them.
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, serialize } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "BF16", shape: [2], data: new Uint16Array([0x3f80, 0x4000]) } }));
 *
 * await using model = await fastsafeOpen(path, { dtype: "F32" });
 * for await (const [name, tensor] of model) {
 *   assertEquals([name, tensor.shape, tensor.data], ["x", [2], new Float32Array([1, 2])]);
 * }
 * ```
 *
 * @module
 */
export { deserialize, DeserializedFile } from "./src/model/deserialize.ts";
export type { FileBytes, FileContent } from "./src/files/bytes.ts";
export { readHeader } from "./src/deno/read_header.ts";
export type { GdsOption } from "./src/device/cuda/run.ts";
export { PinnedPool, type PinnedPoolOptions } from "./src/device/cuda/pinned_pool.ts";
export { type CudaName, type DeviceOption, isDevice } from "./src/base/device_name.ts";
export {
  DeviceError,
  type DeviceErrorDetails,
  GroupError,
  OutOfMemoryError,
  type OutOfMemoryErrorDetails,
  ReadError,
  type ReadErrorDetails,
  RemoteError,
  type RemoteErrorCode,
  type RemoteErrorDetails,
  SafeTensorsError,
  type SafeTensorsErrorCode,
  type SafeTensorsErrorDetails,
  UseAfterCloseError,
  WriteError,
  type WriteErrorDetails,
} from "./src/base/errors.ts";
export { type DType, dtypeBits, DTYPES, type FloatDType, isDType } from "./src/base/dtype.ts";
export { isFloatDType } from "./src/format/cast.ts";
export type { Header, TensorInfo } from "./src/format/header.ts";
export type { MetadataInput } from "./src/format/header_writer.ts";
export type { ShardPlan, ShardRule } from "./src/format/shard_plan.ts";
export type { SliceIndex } from "./src/format/slices.ts";
export type { Files, PathLike } from "./src/files/inputs.ts";
export {
  type GetShardedOptions,
  type GetTensorOptions,
  SafeTensorsModel,
  type TensorSummary,
} from "./src/model/model.ts";
export { autoOpen, fastsafeOpen, loadFile } from "./src/deno/open.ts";
export type { ByteSize } from "./src/base/byte_size.ts";
export type { TensorNames } from "./src/base/names.ts";
export type { Progress } from "./src/base/progress.ts";
export type { OpenOptions } from "./src/deno/options.ts";
export type {
  CacheOption,
  CacheOptions,
  HubOptions,
  NetworkOptions,
  S3Credentials,
  S3Options,
} from "./src/files/network_options.ts";
export type { ModelOptions } from "./src/model/options.ts";
export { prepare } from "./src/deno/prepare.ts";
export type { MappedTensor, SaveOptions, SaveReport } from "./src/save/options.ts";
export { saveFile } from "./src/save/save_file.ts";
export type { SavableModel, SavableTensor, SaveInput, TensorShape } from "./src/save/source.ts";
export { serialize, type TensorInputs } from "./src/save/serialize.ts";
export type { ArrayInput, TensorInput } from "./src/save/views.ts";
export type { LoadStats } from "./src/load/session.ts";
export type { SourceOption } from "./src/deno/select_source.ts";
export type { FileAddress, Source, SourceFile, UrlSource } from "./src/files/source.ts";
export type { ShardOptions } from "./src/files/shard_options.ts";
export type { DLPackOptions } from "./src/device/dlpack.ts";
export {
  type ChangedTensor,
  CudaTensor,
  HostTensor,
  type HostTensorClass,
  type HostTensorInit,
  type LoadedTensor,
  type TensorOn,
  type ToOptions,
  type TypedHostTensor,
  WebGpuTensor,
  type WebGpuView,
} from "./src/device/tensors.ts";
export type {
  ArrayByDType,
  ArrayDType,
  ByteView,
  DTypeOfArray,
  TensorData,
  TensorView,
} from "./src/device/cpu/elements.ts";
export { quantize } from "./src/device/quantize.ts";
export type { QuantizedTensor, QuantizeOptions } from "./src/device/cpu/quantize.ts";
export type { QuantizedDType } from "./src/format/scaled.ts";
export type { DequantizeOptions } from "./src/load/dequantize.ts";
export type { DescribedTensor } from "./src/device/describe.ts";
export type { HostElements, Tensor } from "./src/load/tensor.ts";
export type { UsrbioOptions } from "./src/three_fs/options.ts";
export {
  convertPyTorch,
  createReader,
  doctor,
  extractMountPoint,
  FilesBuffer,
  getBackend,
  getHf3fsLibPath,
  GPT2_SHARDS,
  isAvailable,
  LLAMA_SHARDS,
  MIXTRAL_SHARDS,
  MpiGroup,
  NcclGroup,
  openPyTorch,
  ParallelLoader,
  SafeTensorsFileLoader,
  SingleGroup,
} from "./src/base/moved.ts";
