/**
 * One process that parses headers with `JSON.parse`: `parse.ts <times> <folder>` prints the seconds of each time. The
 * headers' bytes are in memory before the clock starts; they are not checked.
 */
const [times, folder] = Deno.args;
const headers: Uint8Array[] = [];
for (const { name } of Deno.readDirSync(folder!)) {
  using file = Deno.openSync(`${folder}/${name}`);
  const length = new Uint8Array(8);
  file.readSync(length);
  const json = new Uint8Array(Number(new DataView(length.buffer).getBigUint64(0, true)));
  for (let done = 0; done < json.byteLength;) done += file.readSync(json.subarray(done))!;
  headers.push(json);
}

const decoder = new TextDecoder();
const seconds = Array.from({ length: Number(times) }, () => {
  const start = performance.now();
  for (const json of headers) JSON.parse(decoder.decode(json));
  return (performance.now() - start) / 1000;
});
console.log(JSON.stringify(seconds));
