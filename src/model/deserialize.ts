/**
 * The bytes of a safetensors file to tensors, and headers by themselves.
 */
import { workingFolder } from "../files/native/local_path.ts";
import { readFileHeader } from "../files/catalog.ts";
import { describeValue } from "../base/check.ts";
import { dtypeAlignment } from "../base/dtype.ts";
import type { Header } from "../format/header.ts";
import { headerLength, parseHeader } from "../format/header_reader.ts";
import { type PathLike, toPath } from "../files/inputs.ts";
import { selectEngine } from "../load/native/select.ts";
import { HostTensor } from "../device/cpu/tensor.ts";

/**
 * The tensors of a safetensors file that is in memory already.
 *
 * Tensors are views of `file`, not copies, except where a tensor's place is not aligned for its element type.
 *
 * @param file all bytes of the file: an ArrayBuffer, or any view of one
 * @returns name → tensor, in file order
 * @throws {SafeTensorsError} if the header is bad or the length does not fit
 * @throws {TypeError} if `file` is something else
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

/**
 * Reads and checks the header of a file; none of its tensors.
 *
 * @param path a path or a `file:` URL
 * @throws {TypeError} if it is neither
 * @throws {SafeTensorsError} if the header is bad
 * @throws {ReadError} if the file cannot be opened or read
 */
export async function readHeader(path: PathLike): Promise<Header> {
  const local = toPath(path);
  const folder = workingFolder(); // before anything is waited for
  const { source } = await selectEngine();
  const file = await source.open(local, folder);
  try {
    return await readFileHeader(file);
  } finally {
    await file.close();
  }
}
