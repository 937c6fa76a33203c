/**
 * Makes tensors from the bytes of a safetensors file.
 */
import { dtypeAlignment } from "../base/dtype.ts";
import { handled } from "../base/handled.ts";
import { HostTensor } from "../device/tensors.ts";
import { allBytes, bytesOf, type FileBytes, type FileContent, isBlobOrResponse } from "../files/bytes.ts";
import { headerLength, parseHeader } from "../format/header_reader.ts";

/** The tensors of a file by name, in file order, with its metadata. */
export class DeserializedFile extends Map<string, HostTensor> {
  /** The `__metadata__` of the file; empty where it has none. */
  readonly metadata: Readonly<Record<string, string>>;

  /** Makes the result of {@linkcode deserialize}. */
  constructor(metadata: Readonly<Record<string, string>>) {
    super();
    this.metadata = metadata;
  }
}

/**
 * Returns the tensors of a safetensors file whose bytes are in memory.
 *
 * Tensors are views of `file`. A tensor is a copy where its offset is not aligned for its element type, and every tensor
 * is where `file` is memory that Workers share. Holds the event loop while it reads the header.
 *
 * @param file all bytes of the file: an ArrayBuffer, a SharedArrayBuffer, or any view of one
 * @returns name → tensor, in file order, and the metadata
 * @throws {SafeTensorsError} if the header is not valid or the length does not match it
 * @throws {TypeError} if `file` has another type
 *
 * @example Use
 * ```ts
 * import { deserialize, serialize } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const bytes = serialize({ x: { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } }, { format: "pt" });
 * const file = await deserialize(new Response(bytes)); // or a Blob; bytes themselves need no await
 * assertEquals(file.get("x")!.data, new Uint8Array([1, 2]));
 * assertEquals(file.metadata, { format: "pt" });
 * ```
 */
export function deserialize(file: FileBytes): DeserializedFile;
/**
 * The same for a Blob or a Response, of which all bytes are read.
 *
 * @throws {ReadError} if the response is not successful
 */
export function deserialize(file: Blob | Response): Promise<DeserializedFile>;
export function deserialize(file: FileContent): DeserializedFile | Promise<DeserializedFile> {
  return isBlobOrResponse(file)
    ? handled(allBytes(file).then(tensorsIn))
    : tensorsIn(bytesOf("Cannot deserialize", file));
}

function tensorsIn(all: Uint8Array<ArrayBuffer>): DeserializedFile {
  const length = headerLength(all, all.byteLength);
  const header = parseHeader(all.subarray(8, 8 + length), all.byteLength);
  const tensors = new DeserializedFile(Object.fromEntries(header.metadata));
  for (const { name, dtype, shape, begin, end } of header.tensors.values()) {
    const view = all.subarray(header.dataStart + begin, header.dataStart + end);
    const bytes = view.byteOffset % dtypeAlignment(dtype) === 0 ? view : view.slice();
    tensors.set(name, new HostTensor(name, dtype, shape, bytes));
  }
  return tensors;
}
