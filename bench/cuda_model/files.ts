/**
 * Files for the model: their headers are real, and their tensors are holes, which take no space.
 */

/** A model of equal tensors in several files. */
export interface Holes {
  readonly files: number;
  /** Tensors of each file. */
  readonly tensors: number;
  /** Bytes of each tensor of BF16. */
  readonly tensorBytes: number;
}

/** Writes the files to a folder; returns their paths. */
export async function writeHoles(folder: string, { files, tensors, tensorBytes }: Holes): Promise<string[]> {
  await Deno.mkdir(folder, { recursive: true });
  return await Promise.all(Array.from({ length: files }, async (_, file) => {
    const entries = Array.from({ length: tensors }, (_, index) => {
      const data_offsets = [index * tensorBytes, (index + 1) * tensorBytes];
      return [`${file}.${index}`, { dtype: "BF16", shape: [tensorBytes / 2], data_offsets }];
    });
    const text = JSON.stringify(Object.fromEntries(entries));
    const header = new TextEncoder().encode(text.padEnd(Math.ceil(text.length / 8) * 8));
    const length = new Uint8Array(new BigUint64Array([BigInt(header.byteLength)]).buffer);
    const path = `${folder}/${file}.safetensors`;
    await Deno.writeFile(path, new Uint8Array([...length, ...header]));
    await Deno.truncate(path, 8 + header.byteLength + tensors * tensorBytes);
    return path;
  }));
}
