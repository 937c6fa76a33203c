import { assertEquals } from "@std/assert";
import { type PlanFile, PlanMemory } from "../../ffi/plan_memory.ts";
import type { FileSegment } from "../../src/base/file_segment.ts";
import { DTYPES } from "../../src/base/dtype.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

const FILES: PlanFile[] = [
  { fd: 3, fdDirect: -1, size: 2 ** 40 + 5, mtimeSeconds: 1_700_000_000n, mtimeNanoseconds: 999_999_999n },
  { fd: 2 ** 31 - 1, fdDirect: 7, size: 0, mtimeSeconds: -5n, mtimeNanoseconds: 0n },
];

/** Every field differs from every other, and most need more than 32 bits. */
const SEGMENTS: (FileSegment & { allocation: number })[] = Array.from({ length: 5 }, (_, index) => ({
  file: index % 2,
  fileOffset: 2 ** 41 + index,
  run: 2 ** 33 + 2 * index,
  outerCount: 2 ** 32 - 1 - index,
  outerStride: 2 ** 42 + 3 * index,
  innerCount: 17 + index,
  innerStride: 2 ** 35 + 5 * index,
  allocation: 2 ** 44 + 7 * index,
  from: DTYPES[index]!,
  to: DTYPES[DTYPES.length - 1 - index]!,
}));

const { path: cc, missing } = await compiler();

suite("PlanMemory against native/plan.h", "native", missing, () => {
  Deno.test("PlanMemory has the layout of native/plan.h", async () => {
    await using folder = await tempFolder();
    const program = `${folder.path}/print_plan`;
    const source = `${ROOT}tests/ffi/print_plan.c`;
    const args = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", `-I${ROOT}native`, "-o", program, source];
    const built = await new Deno.Command(cc, { args }).output();
    assertEquals(built.code, 0, new TextDecoder().decode(built.stderr));

    const memory = new PlanMemory(FILES, SEGMENTS.length, 3_000_000_000);
    for (const [index, segment] of SEGMENTS.entries()) {
      memory.setSegment(index, segment, 2 ** 47 - 4096 * index);
    }
    const child = new Deno.Command(program, { stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(memory.bytes);
    await writer.close();
    const { stdout, stderr } = await child.output();
    const seen = JSON.parse(new TextDecoder().decode(stderr), (key, value) => {
      return key.startsWith("mtime") ? BigInt(value) : value;
    });
    assertEquals(seen, {
      stagingBytes: 3_000_000_000,
      destinationKind: 0,
      bytes: memory.bytes.byteLength,
      files: FILES,
      segments: SEGMENTS.map((segment, index) => ({
        ...segment,
        from: DTYPES.indexOf(segment.from),
        to: DTYPES.indexOf(segment.to),
        destination: 2 ** 47 - 4096 * index,
      })),
    });

    assertEquals(memory.failure, null);
    memory.bytes.set(stdout);
    assertEquals([memory.next, memory.wake, memory.landedBytes], [11, 4_000_000_000, 2 ** 40]);
    assertEquals([memory.bufferedBytes, memory.directBytes, memory.directRefused], [
      2 ** 41 + 1,
      2 ** 42 + 2,
      3,
    ]);
    assertEquals(memory.failure, {
      kind: "changed",
      segment: 5,
      errno: -6,
      offset: 2 ** 43 + 7,
      expected: 2 ** 44 + 8,
      actual: 2 ** 45 + 9,
    });
    assertEquals([...memory.done], [0, 1, 0, 1, 0]);
  });
});
