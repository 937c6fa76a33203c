/**
 * What the ranks of device_program.ts must have got.
 */
import { assertEquals } from "@std/assert";
import { digest, type Outcome, pattern } from "./ranks.ts";

/** Checks what every rank said: it got the right bytes, and left nothing. */
export async function checkMoves(
  { code, stderr, ranks }: Outcome,
  kind: string,
  size: number,
): Promise<void> {
  assertEquals([code, stderr], [0, ""]);
  const numbers = Array.from({ length: size }, (_, rank) => rank);
  assertEquals(
    ranks.map((said) => [said.rank, said.size, said.kind]),
    numbers.map((rank) => [rank, size, kind]),
  );
  for (const said of ranks) {
    assertEquals(said.digests, await expected(said.rank, size));
    assertEquals(said.gathered, numbers.map((rank) => ({ rank })));
    assertEquals([said.left, said.violations], [0, 0], "something was left, or used wrongly");
    if (kind !== "nccl") continue;
    assertEquals(said.refused, [
      "DeviceError: Cannot broadcast host memory over NCCL: copy it to cuda:0 first, or use an MpiGroup",
      "DeviceError: Cannot broadcast memory of cuda:1 over NCCL: this rank's group is on cuda:0",
    ]);
  }
}

/** What a rank must have received, in the order of its calls. */
async function expected(rank: number, size: number): Promise<string[]> {
  const lengths = deviceLengths(size);
  const start = lengths.slice(0, rank).reduce((sum, length) => sum + length, 0);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  for (let root = 0; root < size; root++) {
    for (const length of [0, 1, 200_003]) blocks.push(pattern(root, length));
    blocks.push(pattern(root + 9, total).slice(start, start + lengths[rank]!));
  }
  for (let index = 0; index < 12; index++) blocks.push(pattern(index + 30, index * 8009));
  return await Promise.all([...blocks, pattern(77, 5000)].map(digest));
}

/** As the program has them, written down once more. */
function deviceLengths(size: number): number[] {
  return [70_001, 0, 210_003].slice(0, size);
}
