/**
 * Slices, casts and joins of tensors in memory, beside `memcpy` of as many bytes; each fills memory that was never used.
 */
import { fastsafeOpen, HostTensor, prepare, serialize } from "../mod.ts";
import { hostOperations } from "../src/load/host_operations.ts";
import { tempFolder } from "./temp_folder.ts";

const MIB = 2 ** 20;
const COLUMNS = 2048;

const { symbols } = Deno.dlopen("libc.so.6", {
  memcpy: { parameters: ["buffer", "buffer", "usize"], result: "pointer", nonblocking: true },
});
await prepare();
const path = `${tempFolder()}/one.safetensors`;
await Deno.writeFile(path, serialize({ x: { dtype: "U8", shape: [1], data: new Uint8Array(1) } }));
await using _model = await fastsafeOpen(path); // selects the operations of the native engine

for (const bytes of [MIB, 64 * MIB, 1024 * MIB]) {
  const rows = bytes / 2 / COLUMNS;
  const source = new Uint8Array(bytes).fill(0x3c);
  const tensor = new HostTensor("x", "BF16", [rows, COLUMNS], source);
  const half = new HostTensor("x", "BF16", [rows / 2, COLUMNS], source.subarray(0, bytes / 2));
  const operations = hostOperations();
  const bench = (name: string, length: number, run: () => Promise<unknown>) => {
    const group = `${bytes / MIB} MiB, ${length / MIB} MiB of results`;
    const n = bytes > 64 * MIB ? 5 : 20;
    const baseline = name.startsWith("memcpy");
    Deno.bench(
      { name: `${name}, ${bytes / MIB} MiB`, group, n, warmup: 2, baseline },
      async () => void await run(),
    );
  };
  const memcpy = (length: number) => async () => {
    await symbols.memcpy(operations.allocate(length), source, BigInt(length));
  };
  const gather = (length: number, run: number, stride: number) => async () => {
    const levels = length === run ? [] : [{ count: length / run, stride }];
    await operations.gather(source, { offset: 0, run, levels }, operations.allocate(length));
  };
  bench("memcpy", bytes, memcpy(bytes));
  bench("copy()", bytes, () => tensor.copy());
  bench("to({ dtype: F32 })", bytes, () => half.to({ dtype: "F32" }));
  bench(
    "join of rows",
    bytes,
    () => operations.join([half.bytes, half.bytes], 1, operations.allocate(bytes)),
  );
  bench(
    "join of columns",
    bytes,
    () => operations.join([half.bytes, half.bytes], rows / 2, operations.allocate(bytes)),
  );
  bench("memcpy of a half", bytes / 2, memcpy(bytes / 2));
  bench("slice of half of the rows", bytes / 2, gather(bytes / 2, bytes / 2, 0));
  bench("slice of half of the columns", bytes / 2, gather(bytes / 2, COLUMNS, 2 * COLUMNS));
}
