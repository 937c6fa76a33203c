/** A file with one tensor of so many zeros, of which the disk holds none. */
export async function writeSparse(path: string, length: number): Promise<void> {
  const header = { huge: { dtype: "U8", shape: [length], data_offsets: [0, length] } };
  const bytes = new TextEncoder().encode(JSON.stringify(header));
  const head = new Uint8Array(8 + bytes.byteLength);
  new DataView(head.buffer).setBigUint64(0, BigInt(bytes.byteLength), true);
  head.set(bytes, 8);
  await Deno.writeFile(path, head);
  await Deno.truncate(path, head.byteLength + length);
}
