/**
 * The limit probes of bench/limit: they do the work that they time.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { castContenders, columnContenders } from "../../bench/side_by_side/tasks.ts";
import { Tools } from "../../bench/side_by_side/tools.ts";
import { saveFile } from "../../mod.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import "../support/open_library.ts";
import { suite } from "../support/skip.ts";

const { missing } = await compiler();

suite("limit probes", "native", missing, () => {
  Deno.test("the cast probe casts every element of its files, in every way", async () => {
    await using folder = await tempFolder();
    const tools = await Tools.build(folder.path);
    // 1.0, -2.0, the smallest subnormal, infinity and a NaN of BF16; files that fill no block and no page
    const values = [0x3f80, 0xc000, 0x0001, 0x7f80, 0x7fc1];
    const F32 = [0x3f800000, 0xc0000000, 0x00010000, 0x7f800000, 0x7fc10000];
    const lengths = [5000, 3000];
    const files = lengths.map((_, file) => `${folder.path}/${file}`);
    for (const [file, path] of files.entries()) {
      const elements = Uint16Array.from({ length: lengths[file]! }, (_, i) => values[(i + file) % 5]!);
      await Deno.writeFile(path, new Uint8Array(elements.buffer));
    }
    for (const flags of [[], ["-s"], ["-p"]]) {
      const out = `${folder.path}/out`;
      const seconds = await tools.time("cast", [...flags, "-t", "3", "-b", "4096", "-o", out, ...files]);
      assertEquals(seconds > 0, true);
      const found = new Uint32Array((await Deno.readFile(out)).buffer);
      // A file takes whole pages: 10,000 bytes are 3 pages of 2,048 elements, 6,000 bytes are 2.
      const expected = Uint32Array.from({ length: 5 * 2048 }, (_, i) => {
        const file = i < 3 * 2048 ? 0 : 1, at = i - file * 3 * 2048;
        return at < lengths[file]! ? F32[(at + file) % 5]! : 0;
      });
      assertEquals(found, expected, flags.join());
    }
  });

  Deno.test("the strided probe reads the columns of its plan in every way", async () => {
    await using folder = await tempFolder();
    const tools = await Tools.build(folder.path);
    // The first file: 3 bytes, then 1300 rows of 10 bytes. The second: 5 rows of 4 bytes.
    const first = Uint8Array.from({ length: 3 + 1300 * 10 }, (_, i) => (i * 7) % 251);
    const second = Uint8Array.from({ length: 20 }, (_, i) => 100 + i);
    const files = [`${folder.path}/first`, `${folder.path}/second`];
    await Deno.writeFile(files[0]!, first);
    await Deno.writeFile(files[1]!, second);
    const plan = `${folder.path}/plan`;
    await Deno.writeTextFile(plan, "0 3 1300 10 7 3\n1 0 5 4 0 2\n");
    const expected = Uint8Array.from([
      ...Array.from({ length: 1300 * 3 }, (_, i) => ((3 + Math.floor(i / 3) * 10 + 7 + i % 3) * 7) % 251),
      ...[100, 101, 104, 105, 108, 109, 112, 113, 116, 117],
    ]);
    for (
      const way of [["rows"], ["blocks"], ["gather"], ["rows", "-p"], ["blocks", "-d"], [
        "blocks",
        "-d",
        "-p",
      ]]
    ) {
      for (const block of ["1", "64", "100000"]) { // a row, some rows, all rows
        const out = `${folder.path}/out`;
        try {
          await tools.time("columns", ["-w", ...way, "-t", "3", "-b", block, "-o", out, plan, ...files]);
        } catch (error) {
          if (!way.includes("-d") || !/Invalid argument/.test(`${error}`)) throw error;
          continue; // a file system without O_DIRECT
        }
        assertEquals(await Deno.readFile(out), expected, `${way}, blocks of ${block}`);
      }
    }
    await Deno.writeTextFile(plan, "1 0 6 4 0 2\n");
    await assertRejects(
      () => tools.time("columns", [plan, ...files]),
      Error,
      "a matrix ends behind its file",
    );
  });

  Deno.test("casts and columns have a probe only where it does the same as the loader", async () => {
    await using folder = await tempFolder();
    const tools = await Tools.build(folder.path);
    const names = async (tensors: Parameters<typeof saveFile>[0]) => {
      const path = `${folder.path}/model.safetensors`;
      await saveFile(tensors, path, { overwrite: true });
      const casts = await castContenders(tools, [path], [1]);
      const columns = await columnContenders(tools, folder.path, [path], 4, [1]);
      return [casts, columns].map((all) => all.map(({ name, bytes }) => [name, bytes]));
    };
    const matrix = { dtype: "BF16", shape: [512, 8], data: new Uint16Array(4096) } as const;
    assertEquals(await names({ "layers.0.mlp.0.weight": matrix }), [
      [
        ["limit of the cast: buffered, 1 thread", undefined],
        ["limit of the cast: buffered, streaming stores, 1 thread", undefined],
        ["limit of the cast: buffered, populate, 1 thread", undefined],
        ["limit of the cast: O_DIRECT, 1 thread", undefined],
        ["limit of the cast: O_DIRECT, streaming stores, 1 thread", undefined],
        ["limit of the cast: O_DIRECT, populate, 1 thread", undefined],
        ["this loader, BF16 cast to F32", undefined],
      ],
      [
        ["limit of columns: rows, 1 thread", 2048],
        ["limit of columns: blocks, 1 thread", 2048],
        ["limit of columns: gather, 1 thread", 2048],
        ["limit of columns: rows, 1 thread", 2048],
        ["limit of columns: blocks, O_DIRECT, 1 thread", 2048],
        ["limit of columns: blocks, O_DIRECT, populate, 1 thread", 2048],
        ["this loader, 1/4 of the columns", 2048],
      ],
    ]);
    const floats = { dtype: "F32", shape: [512, 6], data: new Float32Array(3072) } as const;
    const withoutProbe = [[["this loader, BF16 cast to F32", undefined]], []];
    assertEquals(await names({ "layers.0.mlp.0.weight": floats }), withoutProbe); // 6 columns for 4 ranks
    assertEquals(await names({ "embedding": floats }), withoutProbe);
  });
});
