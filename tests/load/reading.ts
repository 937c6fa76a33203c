/**
 * Rows, several tensors at once, and tensors by patterns, for eager and lazy models.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type Progress, SafeTensorsError, type TensorNames } from "../../mod.ts";
import type { ProcessGroup } from "../../src/ranks/mod.ts";
import { assertBytes, assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import { bytesRead } from "../support/process.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

const SPECS: readonly TensorSpec[] = [
  { name: "embed", dtype: "F32", shape: [50, 3, 2] },
  { name: "layers.0.q.weight", dtype: "BF16", shape: [4] },
  { name: "layers.0.k.weight", dtype: "BF16", shape: [4] },
  { name: "layers.10.q.weight", dtype: "BF16", shape: [4] },
  { name: "layers.10.q.bias", dtype: "BF16", shape: [4] },
  { name: "scalar", dtype: "I64", shape: [] },
  { name: "nothing", dtype: "I64", shape: [0, 4] },
];

const SELECTIONS: readonly (readonly [TensorNames, readonly string[]])[] = [
  ["embed", ["embed"]],
  ["layers.*.q.*", ["layers.0.q.weight", "layers.10.q.weight", "layers.10.q.bias"]],
  ["*", SPECS.map(({ name }) => name)],
  ["layers.*", ["layers.0.q.weight", "layers.0.k.weight", "layers.10.q.weight", "layers.10.q.bias"]],
  [/\.0\./g, ["layers.0.q.weight", "layers.0.k.weight"]],
  [/^layers\.\d+\.q\.weight$/, ["layers.0.q.weight", "layers.10.q.weight"]],
  [new Set(["*.bias", "scalar"]), ["layers.10.q.bias", "scalar"]],
  [["scalar", /^emb/], ["embed", "scalar"]],
  [["scalar", "embed", "scalar"], ["embed", "scalar"]],
  [(name) => name.length === 6, ["scalar"]],
  [() => false, []],
];

export function readingTests(test: DefineTest, engine: EngineName): void {
  test("getRows() returns rows in the order of their positions", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS, { misalignment: 1 });
    const { bytes } = tensors.find(({ name }) => name === "embed")!;
    const cases: readonly (readonly number[])[] = [
      [5, 17, 49],
      [49, 0, 5],
      [3, 4, 5, 6, 20, 21, 2],
      [7, 7, 7],
      [-1, -50, 0],
      [12],
      [],
      Array.from({ length: 300 }, (_, index) => (index * 37) % 50),
    ];
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy, blockBytes: 4096 });
      for (const indexes of cases) {
        const rows = await model.getRows("embed", indexes);
        const expected = new Uint8Array(indexes.length * 24);
        for (const [to, index] of indexes.entries()) {
          const row = index < 0 ? index + 50 : index;
          expected.set(bytes.subarray(row * 24, row * 24 + 24), to * 24);
        }
        assertEquals([rows.name, rows.dtype, rows.shape], ["embed", "F32", [indexes.length, 3, 2]]);
        assertBytes(rows.bytes, expected, `rows ${indexes}, lazy: ${lazy}`);
      }
      assertEquals((await model.getRows("embed", new Set([1, 2]).values())).shape, [2, 3, 2]);
      assertEquals((await model.getRows("embed", new Uint32Array([1, 2]), { dtype: "F16" })).dtype, "F16");
    }
  });

  test("getRows() rejects positions outside of the tensor, and values that are not positions", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path, { lazy: true });
    const outside: readonly (readonly [string, number, string])[] = [
      ["embed", 50, 'Cannot get rows of tensor "embed": index 50 is outside of its 50 rows'],
      ["embed", -51, "index -51 is outside of its 50 rows"],
      ["nothing", 0, "index 0 is outside of its 0 rows"],
      ["scalar", 0, 'Cannot get rows of tensor "scalar": a scalar has none'],
    ];
    for (const [name, index, message] of outside) {
      const error = await assertRejects(() => model.getRows(name, [index]), SafeTensorsError, message);
      assertEquals([error.code, error.tensor], ["SliceOutOfRange", name]);
    }
    for (const wrong of [1.5, NaN, "1", null, 2n]) {
      const call = () => model.getRows("embed", [wrong as number]);
      await assertRejects(call, TypeError, "indexes must be a list of integers, got one with");
    }
    for (const wrong of [5, "5", undefined, {}]) {
      await assertRejects(
        () => model.getRows("embed", wrong as never),
        TypeError,
        "indexes must be a list of integers",
      );
    }
    await assertRejects(() => model.getRows("embd", [1]), SafeTensorsError, 'did you mean "embed"?');
    await assertRejects(
      () => model.getRows("embed", [1], { dtpye: "F16" } as never),
      TypeError,
      "did you mean dtype?",
    );
    assertEquals(model.stats().bytes, 0);
  });

  test("getRows() of a lazy model reads only these rows", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "embed", dtype: "F32", shape: [1000, 4096] }]);
    await using model = await fastsafeOpen(path, { lazy: true });
    await model.getRows("embed", [0]); // the first read reads other things too, such as the memory that is available
    const before = bytesRead();
    await model.getRows("embed", [1, 500, 501, 999]);
    const read = bytesRead() - before;
    assert(read < 2 ** 20, `${read} bytes`); // of 16 MB; a GPU reads files of the system too
  });

  test("one small tensor of a lazy model reads nothing but its bytes", async (folder) => {
    if (engine !== "native") return;
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 100 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "U8", shape: [4096] };
    });
    await writeFile(path, specs);
    await using model = await fastsafeOpen(path, { lazy: true });
    await model.getTensor("t0"); // the first call of a function can read files of the system
    const before = bytesRead();
    for (const { name } of specs) await model.getTensor(name);
    const read = bytesRead() - before;
    assert(read >= 409_600 && read < 409_600 + 10_000, `${read} bytes`); // each file of the system would add 100 times its length
  });

  test("one small tensor of a lazy model has the bytes and the statistics of a load, and its own memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = [1, 2, 777, 2048, 32_767, 32_768].map((count): TensorSpec => {
      const words = Uint16Array.from({ length: count }, (_, index) => (index * 37) % 0x7f80); // no NaN
      return { name: `t${count}`, dtype: "BF16", shape: [count], bytes: new Uint8Array(words.buffer) };
    });
    const tensors = await writeFile(path, specs, { misalignment: 1 });
    for (const dtype of [undefined, "F32"] as const) {
      const reports: Progress[] = [];
      await using model = await fastsafeOpen(path, {
        lazy: true,
        ...dtype && { dtype },
        onProgress: (progress) => void reports.push(progress),
      });
      let bytes = 0;
      for (const [index, tensor] of tensors.entries()) {
        const found = await model.getTensor(tensor.name);
        assertEquals([found.name, found.dtype, found.shape], [tensor.name, dtype ?? "BF16", tensor.shape]);
        const words = new Uint16Array(tensor.bytes.slice().buffer);
        const wide = new Uint8Array(Uint32Array.from(words, (word) => word << 16).buffer);
        assertBytes(found.bytes, dtype ? wide : tensor.bytes, tensor.name);
        bytes += tensor.bytes.byteLength;
        const stats = model.stats();
        assertEquals([stats.tensors, stats.bytes], [index + 1, bytes]);
        assertEquals([stats.path, stats.threads > 0], [engine === "native" ? "buffered" : stats.path, true]);
        if (engine !== "native" || tensor.bytes.byteLength >= 65_536) continue; // a load, whose end is reported later
        assertEquals(found.bytes.buffer.byteLength, found.bytes.byteLength);
        const report = reports.at(-1)!;
        assertEquals(
          [report.tensors, report.totalTensors, report.bytes, report.totalBytes],
          [index + 1, index + 1, bytes, bytes],
        );
      }
    }
  });

  test("a thousand requests of one turn are read together, with the gaps between them", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 2000 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "BF16", shape: [1024] };
    });
    const tensors = await writeFile(path, [...specs, { name: "table", dtype: "BF16", shape: [2000, 1024] }]);
    const table = tensors.at(-1)!.bytes;
    const bytesOf = (row: number) => table.subarray(2048 * row, 2048 * (row + 1));
    // Of every five rows three are asked for: 1200 of 2000, in another order, and some again.
    const rows = Array.from({ length: 1200 }, (_, index) => {
      const asked = (index * 7) % 1200;
      return 5 * Math.floor(asked / 3) + [0, 1, 3][asked % 3]!;
    });
    const asked = [...rows, ...rows.slice(0, 100)];
    const segments: number[] = [];
    await using model = await fastsafeOpen(path, {
      lazy: true,
      debugLog: (line) => {
        const found = /^1200 tensors, 2457600 bytes in (\d+) segments/.exec(line);
        if (found) segments.push(Number(found[1]));
      },
    });
    const whole = await Promise.all(asked.map((row) => model.getTensor(`t${row}`)));
    for (const [index, row] of asked.entries()) assertTensor(whole[index]!, tensors[row]!);
    const slices = await Promise.all(asked.map((row) => model.getSlice("table", [row, row + 1])));
    for (const [index, row] of asked.entries()) assertBytes(slices[index]!.bytes, bytesOf(row), `row ${row}`);
    const one = await model.getRows("table", asked);
    for (const [index, row] of asked.entries()) {
      assertBytes(one.bytes.subarray(2048 * index, 2048 * (index + 1)), bytesOf(row), `row ${row} of all`);
    }
    // Rows that are asked for twice, and gaps, are not counted.
    const { tensors: count, bytes } = model.stats();
    assertEquals([count, bytes], [3600, 3600 * 2048]);
    // Four mebibytes of the file, into buffers of at most one; row by row these were 800 segments.
    if (engine === "native" || engine === "portable") assertEquals(segments, [4, 4, 4]);
  });

  test("a tensor that is asked for again before it has landed is read once", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x, ...others] = await writeFile(
      path,
      Array.from({ length: 4 }, (_, index): TensorSpec => {
        return { name: `x${index}`, dtype: "BF16", shape: [100, 1000] };
      }),
    );
    const row = x!.bytes.subarray(2000, 4000);
    for (const names of [["x0"], ["x0", "x1", "x2", "x3"]]) {
      await using model = await fastsafeOpen(path, { lazy: true });
      const all = names.map((name) => model.getTensor(name));
      const slice = model.getSlice("x0", 1);
      for (let step = 0; step < 20; step++) await Promise.resolve(); // the load is under way, in this turn of the event loop
      const [first, again, cast, ...slices] = await Promise.all([
        all[0]!,
        model.getTensor("x0"),
        model.getTensor("x0", { dtype: "BF16" }),
        slice,
        model.getSlice("x0", 1),
        model.getSlice("x0", [1, 2]),
      ]);
      await Promise.all(all);
      const stats = model.stats();
      assertEquals(stats.bytes, names.length * 200_000 + 2 * 2000);
      if (engine === "native" || engine === "portable") { // on a GPU these bytes are a copy
        first.bytes.fill(0); // handles of the same tensor share its memory, slices do not
        for (const each of [again, cast]) assert(each.bytes.every((byte) => byte === 0));
        slices[0]!.bytes.fill(0);
      }
      first[Symbol.dispose]();
      assertEquals(again.bytes.length, 200_000);
      for (const each of slices.slice(1)) assertBytes(each.bytes, row, "slice");
      assertEquals(slices.map(({ shape }) => shape), [[1000], [1000], [1, 1000]]);
      assertTensor(await model.getTensor("x0"), x!); // it was returned: this reads it again
      assertTensor(await model.getTensor("x1"), others[0]!);
    }
  });

  test("requests of one turn for the same small tensor share its memory, with a handle each", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [embed] = await writeFile(path, SPECS);
    await using model = await fastsafeOpen(path, { lazy: true });
    const [one, two] = await Promise.all([model.getTensor("embed"), model.getTensor("embed")]);
    one[Symbol.dispose]();
    assertBytes(two.bytes, embed!.bytes, "embed");
    assertEquals(model.stats().bytes, embed!.bytes.byteLength);
  });

  test("getRows() reads from this rank's part with a shard plan", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [embed] = await writeFile(path, SPECS);
    const group = { rank: 1, size: 2 } as ProcessGroup;
    await using model = await fastsafeOpen(path, { group, shardPlan: { embed: 0 } });
    const rows = await model.getRows("embed", [24, 0]);
    assertBytes(
      rows.bytes,
      new Uint8Array([...embed!.bytes.slice(49 * 24), ...embed!.bytes.slice(25 * 24, 26 * 24)]),
      "rows",
    );
  });

  test("the option names and getTensors() accept names, patterns, RegExps and functions", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    const inFile = (names: readonly string[]) =>
      tensors.filter(({ name }) => names.includes(name)).map(({ name }) => name);
    await using all = await fastsafeOpen(path, { lazy: true });
    for (const [names, expected] of SELECTIONS) {
      await using model = await fastsafeOpen(path, { names });
      assertEquals(model.keys(), inFile(expected));
      const record: Record<string, { name: string; bytes: Uint8Array }> = await all.getTensors(names);
      assertEquals(Object.keys(record).toSorted(), expected.toSorted());
      for (const { name, bytes } of tensors) {
        if (expected.includes(name)) assertBytes(record[name]!.bytes, bytes, name);
      }
    }
  });

  test("getTensors() returns a record by name", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [...SPECS, { name: "__proto__", dtype: "U8", shape: [2] }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      const { scalar, embed } = await model.getTensors(["scalar", "embed"]);
      assertEquals([scalar.dtype, embed.shape], ["I64", [50, 3, 2]]);
      const halves = await model.getTensors(["layers.0.q.weight"], { dtype: "F16" });
      assertEquals(halves["layers.0.q.weight"].dtype, "F16");
      const record = await model.getTensors("*");
      assertEquals([Object.keys(record).length, Object.hasOwn(record, "__proto__")], [
        SPECS.length + 1,
        true,
      ]);
      await assertRejects(
        () => model.getTensors(["embed", "scalr"]),
        SafeTensorsError,
        'did you mean "scalar"?',
      );
      await assertRejects(
        () => model.getTensors(["embed", "*.weigth"]),
        SafeTensorsError,
        'Cannot find tensor "*.weigth": no name matches it',
      );
      await assertRejects(
        () => model.getTensors(5 as never),
        TypeError,
        "names must be a name, a pattern with *",
      );
    }
  });

  test("entries() yields every tensor by name", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      const names: string[] = [];
      for await (const [name, tensor] of model.entries()) {
        names.push(name);
        assertEquals(tensor.name, name);
      }
      assertEquals(names.toSorted(), tensors.map(({ name }) => name).toSorted());
    }
  });

  test("getSharded() casts and moves the part", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "w", dtype: "F32", shape: [4, 2] }]);
    const group = { rank: 1, size: 2 } as ProcessGroup;
    for (const lazy of [false, true]) {
      await using alone = await fastsafeOpen(path, { lazy });
      assertEquals((await alone.getSharded("w", 0, { dtype: "F16" })).dtype, "F16");
      await using model = await fastsafeOpen(path, { lazy, group, shardPlan: { none: 0 } });
      const part = await model.getSharded("w", 0, { from: "file", dtype: "BF16", device: "cpu" });
      assertEquals([part.dtype, part.shape], ["BF16", [2, 2]]);
      await assertRejects(
        () => model.getSharded("w", 0, { form: "file" } as never),
        TypeError,
        "did you mean from?",
      );
    }
  });

  test("metadata() returns the entries of one file, or of all files if they agree", async (folder) => {
    const [a, b, c] = [`${folder}/a.safetensors`, `${folder}/b.safetensors`, `${folder}/c.safetensors`];
    await writeFile(a, [{ name: "a", dtype: "U8", shape: [1] }], { metadata: { format: "pt", a: "1" } });
    await writeFile(b, [{ name: "b", dtype: "U8", shape: [1] }], { metadata: { format: "pt", b: "2" } });
    await writeFile(c, [{ name: "c", dtype: "U8", shape: [1] }], { metadata: { format: "np" } });
    await using one = await fastsafeOpen(a);
    assertEquals(one.metadata(), { format: "pt", a: "1" });
    await using two = await fastsafeOpen([a, b]);
    assertEquals(two.metadata(), { format: "pt", a: "1", b: "2" });
    assertEquals([two.metadata(b), two.metadata("b.safetensors")], [{ format: "pt", b: "2" }, {
      format: "pt",
      b: "2",
    }]);
    await using three = await fastsafeOpen([a, b, c]);
    assertEquals(three.files(), [a, b, c]);
    for (
      const [path, message] of [[undefined, "name a file: metadata(path)"], [
        "d.safetensors",
        "files() lists them",
      ]]
    ) {
      const error = await assertRejects(async () => await three.metadata(path), TypeError);
      assert(error.message.includes(message!), error.message);
    }
  });
}
