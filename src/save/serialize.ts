/** Writes tensors to the bytes of a safetensors file. */
import { SafeTensorsError } from "../base/errors.ts";
import { layoutHeader, type MetadataInput } from "../format/header_writer.ts";
import { quote } from "../base/text.ts";
import { checkView } from "../device/cpu/elements.ts";
import { checkTensor, pairsOf, type TensorInput } from "./views.ts";

/** Tensors by name. */
export type TensorInputs = Readonly<Record<string, TensorInput>> | Iterable<readonly [string, TensorInput]>;

/**
 * Returns the bytes of a safetensors file with these tensors, the same as the reference implementation writes.
 *
 * @param metadata the `__metadata__` of the file. Default: none
 * @throws {SafeTensorsError} "InvalidTensorView" if data and shape do not fit; "DuplicateName"; and other errors
 *   of the format
 * @throws {TypeError} if a value is not a tensor in host memory, or its typed array is not that of its dtype
 *
 * @example Use
 * ```ts
 * import { deserialize, serialize } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const file = serialize({ x: { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } }, { format: "pt" });
 * assertEquals(deserialize(file).get("x")!.data, new Uint8Array([1, 2]));
 * ```
 */
export function serialize(tensors: TensorInputs, metadata?: MetadataInput): Uint8Array<ArrayBuffer> {
  const inputs = [...pairsOf(tensors)];
  const specs = inputs.map(([name, tensor]) => {
    checkTensor(name, tensor, ["data"]);
    return { name, dtype: tensor.dtype, shape: tensor.shape };
  });
  const { bytes, header } = layoutHeader(specs, metadata);
  const views = new Map(inputs.map(([name, { data }]) => [name, data]));
  const file = new Uint8Array(header.dataStart + header.dataLength);
  file.set(bytes);
  for (const { name, shape, dtype, begin, end } of header.tensors.values()) {
    const data: unknown = views.get(name);
    checkView("write", name, dtype, data);
    const { buffer, byteOffset, byteLength } = data;
    if (byteLength !== end - begin) {
      const message =
        `Cannot write tensor ${quote(name)}: ${dtype} of shape [${shape}] is ${end - begin} bytes, ` +
        `its data has ${byteLength}`;
      throw new SafeTensorsError("InvalidTensorView", message, { tensor: name });
    }
    file.set(new Uint8Array(buffer, byteOffset, byteLength), header.dataStart + begin);
  }
  return file;
}
