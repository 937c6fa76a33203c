/**
 * Loading over MPI, in processes of their own: what every rank got, against parts that were picked element by element.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { findLaunchers, type Launcher, runRanks } from "../group/ranks.ts";
import { tempFolder, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { summary } from "./load_program.ts";
import { partOf, SPECS } from "./support.ts";

/** Those that can be cut along their last dimension by up to four ranks. */
const FILES = SPECS.map((specs) => specs.filter(({ name }) => name !== "nibbles" && name !== "sixes"));

/** What the last rank does, and what the others say of it. */
const FAILURES: readonly { mode: string; message: RegExp; cause?: string; isLast?: boolean }[] = [
  { mode: "throw", message: /^Rank 2 failed: of the user$/ },
  { mode: "exit", message: /^Rank 2 failed: it ended with exit status 3$/ },
  { mode: "abort", message: /^Rank 2 failed: changed my mind$/ },
  {
    mode: "truncated",
    message: /^Rank 2 failed: Cannot read ".*f2".*was it truncated\?$/,
    isLast: true,
    cause: "ReadError",
  },
  { mode: "break", message: /^Rank 2 failed: it ended the iteration early$/ },
  { mode: "hang", message: /^Rank 2 is missing: no answer for 2 seconds to agree\(\) \("getTensor\(/ },
  {
    mode: "order",
    message: /Rank 2 calls agree\(\) \("getSharded\(.*, rank 0 calls agree\(\) \("getTensor\(/,
    isLast: true,
  },
  { mode: "files", message: /^The ranks do not open the same files: file 1 of rank 2 is /, isLast: true },
];

/** What a rank may take, started on a busy machine. */
const BOUND_SECONDS = 20;

const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

for (const [family, reason] of missing) suite(`loading over ${family}`, "mpi", reason, () => {});
for (const launcher of found) suite(`loading over ${launcher.family}`, "mpi", null, () => define(launcher));

function define(launcher: Launcher): void {
  for (const size of [1, 2, 3, 4]) {
    Deno.test(`${size} ranks load over ${launcher.family}`, async () => {
      await using folder = await tempFolder();
      const tensors: (Written & { owner: number })[] = [];
      const names = await writeFiles(
        folder.path,
        FILES,
        (tensor, file) => tensors.push({ ...tensor, owner: file % size }),
      );
      const words = [folder.path, ...names];
      const { code, stderr, ranks } = await runRanks(launcher, size, "../ranks/load_program.ts", words);
      assertEquals([code, stderr, ranks.length], [0, "", size]);
      const all = ranks.map(({ rank }) => JSON.parse(Deno.readTextFileSync(`${folder.path}/said.${rank}`)));
      for (const [rank, said] of all.entries()) {
        assertEquals([said.rank, said.size, said.order], [rank, size, all[0].order]);
        await check(said, tensors, size);
      }
    });
  }

  for (const { mode, message, isLast, cause } of FAILURES) {
    Deno.test(`3 ranks over ${launcher.family} name the one that fails: ${mode}`, async () => {
      await using folder = await tempFolder();
      const specs = [0, 1, 2].map((file) =>
        Array.from({ length: 6 }, (_, index): TensorSpec => {
          return { name: `${file}.${index}`, dtype: "U8", shape: [2000] };
        })
      );
      const names = await writeFiles(folder.path, specs, () => {});
      const { ranks, stderr } = await runRanks(launcher, 3, "../ranks/failing_program.ts", [
        mode,
        folder.path,
        ...names,
      ]);
      const told = ranks.filter(({ rank }) => rank < 2 || isLast);
      assertEquals(told.map(({ rank }) => rank), isLast ? [0, 1, 2] : [0, 1], stderr);
      for (const said of told) {
        assertEquals([said.name, said.blamed], ["GroupError", 2], JSON.stringify(said));
        assertMatch(said.message, message);
        assertEquals(said.cause, said.rank === 2 ? cause ?? null : null);
        assert(said.seconds < BOUND_SECONDS, `rank ${said.rank} waited ${said.seconds} seconds`);
      }
    });
  }

  Deno.test(`3 ranks over ${launcher.family} end when one is killed`, async () => {
    await using folder = await tempFolder();
    const names = await writeFiles(folder.path, FILES, () => {});
    const { code, seconds } = await runRanks(launcher, 3, "../ranks/failing_program.ts", [
      "kill",
      folder.path,
      ...names,
    ]);
    assert(code !== 0 && seconds < 45, `status ${code} after ${seconds} seconds`);
  });
}

/** Writes files; their names. */
async function writeFiles(
  folder: string,
  specs: readonly (readonly TensorSpec[])[],
  each: (tensor: Written, file: number) => void,
): Promise<string[]> {
  for (const [file, list] of specs.entries()) {
    for (const tensor of await writeFile(`${folder}/f${file}`, list)) each(tensor, file);
  }
  return specs.map((_, file) => `f${file}`);
}

async function check(
  // deno-lint-ignore no-explicit-any
  said: any,
  tensors: readonly (Written & { owner: number })[],
  size: number,
): Promise<void> {
  const { rank } = said;
  const whole: Record<string, string> = {},
    parts: Record<string, string> = {},
    pushed: Record<string, string> = {};
  const keys = tensors.toSorted((a, b) => a.owner - b.owner).map(({ name }) => name);
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    whole[name] = await summary(tensor);
    if (keys.indexOf(name) % size === rank) pushed[name] = whole[name];
    if (shape.length === 0) continue;
    parts[name] = await summary(partOf(tensor, shape.length - 1, rank, size));
    parts[`${name} from file`] = await summary(partOf(tensor, 0, rank, size));
  }
  assertEquals(said.keys, keys);
  assertEquals(said.whole, whole);
  assertEquals(said.parts, parts);
  assertEquals(said.pushed, pushed);
  assertEquals(said.streamed, whole);
  const own = tensors.filter(({ owner }) => owner === rank);
  assertEquals(said.files, Math.ceil((FILES.length - rank) / size));
  assertEquals(said.bytes, own.reduce((sum, { bytes }) => sum + bytes.byteLength, 0));
  assertEquals(said.again, size === 1 ? null : "UseAfterCloseError");
  const [matrix, uneven] = [tensors[0]!, tensors[1]!];
  assertEquals(said.sliced, [
    await summary({ ...matrix, shape: [2, 8], bytes: matrix.bytes.slice(16, 48) }),
    await summary({ ...uneven, shape: [2, 3], bytes: uneven.bytes.slice(12, 36) }),
  ]);
}
