/**
 * Makes tensors from the bytes of a safetensors file.
 */
import { describeValue } from "../base/check.ts";
import { dtypeAlignment } from "../base/dtype.ts";
import { headerLength, parseHeader } from "../format/header_reader.ts";
import { HostTensor } from "../device/tensors.ts";

/**
 * Returns the tensors of a safetensors file whose bytes are in memory.
 *
 * Tensors are views of `file`. A tensor is a copy where its offset is not aligned for its element type.
 *
 * @param file all bytes of the file: an ArrayBuffer, or any view of one
 * @returns name → tensor, in file order
 * @throws {SafeTensorsError} if the header is not valid or the length does not match it
 * @throws {TypeError} if `file` has another type
 */
export function deserialize(file: ArrayBuffer | ArrayBufferView<ArrayBuffer>): Map<string, HostTensor> {
  const all = bytesOf(file);
  const length = headerLength(all, all.byteLength);
  const header = parseHeader(all.subarray(8, 8 + length), all.byteLength);
  const tensors = new Map<string, HostTensor>();
  for (const { name, dtype, shape, begin, end } of header.tensors.values()) {
    const view = all.subarray(header.dataStart + begin, header.dataStart + end);
    const bytes = view.byteOffset % dtypeAlignment(dtype) === 0 ? view : view.slice();
    tensors.set(name, new HostTensor(name, dtype, shape, bytes));
  }
  return tensors;
}

function bytesOf(file: ArrayBuffer | ArrayBufferView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (ArrayBuffer.isView(file)) return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  if (file instanceof ArrayBuffer) return new Uint8Array(file);
  throw new TypeError(
    `Cannot deserialize: file must be an ArrayBuffer or a view of one, got ${describeValue(file)}`,
  );
}
