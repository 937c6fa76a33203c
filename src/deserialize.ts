/**
 * The bytes of a safetensors file to tensors, and headers by themselves.
 */
import { readFileHeader } from "./catalog.ts";
import { dtypeAlignment } from "./format/dtype.ts";
import type { Header } from "./format/header.ts";
import { headerLength, parseHeader } from "./format/header_reader.ts";
import { selectEngine } from "./lanes/select.ts";
import { HostTensor } from "./tensor/host_tensor.ts";

/**
 * The tensors of a safetensors file that is in memory already.
 *
 * Tensors are views of `file`, not copies, except where a tensor's place is not aligned for its element type.
 *
 * @param file all bytes of the file
 * @returns name → tensor, in file order
 * @throws {SafeTensorsError} if the header is bad or the length does not fit
 */
export function deserialize(file: Uint8Array<ArrayBuffer>): Map<string, HostTensor> {
  const length = headerLength(file, file.byteLength);
  const header = parseHeader(file.subarray(8, 8 + length), file.byteLength);
  const tensors = new Map<string, HostTensor>();
  for (const { name, dtype, shape, begin, end } of header.tensors.values()) {
    const view = file.subarray(header.dataStart + begin, header.dataStart + end);
    const bytes = view.byteOffset % dtypeAlignment(dtype) === 0 ? view : view.slice();
    tensors.set(name, new HostTensor(name, dtype, shape, bytes));
  }
  return tensors;
}

/**
 * Reads and checks the header of a file; none of its tensors.
 *
 * @throws {SafeTensorsError} if the header is bad
 * @throws {ReadError} if the file cannot be opened or read
 */
export async function readHeader(path: string): Promise<Header> {
  const { source } = await selectEngine();
  const file = await source.open(path);
  try {
    return await readFileHeader(file);
  } finally {
    await file.close();
  }
}
