/**
 * Tensors that the option `map` changes while they are saved.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, HostTensor, type Progress, SafeTensorsError, saveFile } from "../../mod.ts";
import type { DefineTest } from "../load/context.ts";
import { type TensorSpec, writeFile } from "../support/models.ts";
import { assertFile, assertFiles, namesIn, pairs, referenceFile, written } from "./support.ts";

const SPECS: TensorSpec[] = [
  { name: "layer.w", dtype: "F32", shape: [40, 30] },
  { name: "layer.b", dtype: "F32", shape: [3] },
  { name: "ids", dtype: "I64", shape: [5] },
  { name: "mask", dtype: "BOOL", shape: [3] },
  { name: "empty", dtype: "F16", shape: [0, 3] },
  { name: "large", dtype: "U8", shape: [9 * 2 ** 20 + 3] },
];

export function mappingTests(test: DefineTest): void {
  test("saveFile() with map changes, leaves out, renames and adds tensors of every input", async (folder) => {
    const data = written(SPECS);
    const path = `${folder}/in.safetensors`;
    await writeFile(path, data);
    const [w, b, ids, _mask, empty, large] = data;
    const extra = new Uint8Array([1, 2, 3, 4, 5]);
    const expected = [
      { ...w!, name: "layer.weight" },
      { ...b!, dtype: "U8", shape: [12] } as const,
      { ...ids! },
      { ...ids!, name: "ids.extra", dtype: "I8", shape: [5, 1], bytes: extra } as const,
      empty!,
      large!,
    ];
    const stream = async function* () {
      for (const pair of pairs(data)) yield await Promise.resolve(pair);
    };
    const change = <T extends { data: ArrayBufferView }>(name: string, tensor: T) => {
      const bytes = new Uint8Array(
        tensor.data.buffer as ArrayBuffer,
        tensor.data.byteOffset,
        tensor.data.byteLength,
      );
      switch (name) {
        case "layer.w":
          return { "layer.weight": tensor };
        case "layer.b":
          return Promise.resolve({ dtype: "U8", shape: [12], data: bytes });
        case "ids":
          return new Map<string, unknown>([[name, tensor], ["ids.extra", {
            dtype: "I8",
            shape: [5, 1],
            data: extra,
          }]]);
        case "mask":
          return null;
      }
      return tensor;
    };
    // deno-lint-ignore no-explicit-any
    const map = change as any;
    for (
      const [kind, input] of [["record", Object.fromEntries(pairs(data))], ["stream", stream()]] as const
    ) {
      const { tensors } = await saveFile(input, `${folder}/${kind}`, { map });
      assertEquals(tensors, 6);
      await assertFile(`${folder}/${kind}`, referenceFile(expected));
    }
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      await saveFile(model, `${folder}/model`, { map, overwrite: true });
      await assertFile(`${folder}/model`, referenceFile(expected));
    }
    assertEquals(namesIn(folder), ["in.safetensors", "model", "record", "stream"]);
  });

  test("saveFile() with map merges a LoRA into a model: the cast is after the change", async (folder) => {
    const w = { dtype: "BF16", shape: [2], data: new Uint16Array([0x3f80, 0x4000]) } as const; // 1, 2
    const norm = { dtype: "BF16", shape: [1], data: new Uint16Array([0x4040]) } as const; // 3
    await saveFile({ w, norm }, `${folder}/base.safetensors`);
    const delta = new Float32Array([0.5, -1]);
    await using model = await fastsafeOpen(`${folder}/base.safetensors`, { lazy: true });
    await saveFile(model, `${folder}/merged.safetensors`, {
      dtype: "BF16",
      map(name, tensor) {
        if (name !== "w") return tensor;
        const sum = tensor.toFloat32().map((value, index) => value + delta[index]!);
        return HostTensor.from({ shape: tensor.shape, data: sum });
      },
    });
    const merged = { ...w, data: new Uint16Array([0x3fc0, 0x3f80]) }; // 1.5, 1
    await saveFile({ w: merged, norm }, `${folder}/expected`);
    await assertFile(`${folder}/merged.safetensors`, await Deno.readFile(`${folder}/expected`));
  });

  test("results of every size are cast by the option dtype, in shards too", async (folder) => {
    const values = (length: number) => new Float32Array(length).map((_, index) => index % 200 - 100);
    const tensors = Object.fromEntries([3, 20_000, 400_001, 3_000_000].map((length) => {
      return [`t${length}`, HostTensor.from({ shape: [length], data: values(length) })];
    }));
    const options = { dtype: "BF16", maxShardBytes: "1MB" } as const;
    const { paths } = await saveFile(tensors, `${folder}/plain/m.safetensors`, options);
    const mapped = await saveFile(tensors, `${folder}/mapped/m.safetensors`, {
      ...options,
      map: (_name, tensor) => tensor.copy(),
    });
    assertEquals(mapped.paths, paths.map((path) => path.replace("/plain/", "/mapped/")));
    for (const [index, path] of mapped.paths.entries()) {
      await assertFile(path, await Deno.readFile(paths[index]!));
    }
    assertEquals(namesIn(`${folder}/mapped`), namesIn(`${folder}/plain`));
  });

  test("map casts integers, which the option dtype leaves as they are", async (folder) => {
    const ids = HostTensor.from({ shape: [2], data: new BigInt64Array([7n, -8n]) });
    const w = HostTensor.from({ shape: [1], data: new Float32Array([1.5]) });
    await saveFile({ ids, w }, `${folder}/in.safetensors`);
    await using model = await fastsafeOpen(`${folder}/in.safetensors`);
    await saveFile(model, `${folder}/x`, {
      dtype: "F16",
      map: (_name, tensor) => tensor.dtype === "I64" ? tensor.to({ dtype: "I32" }) : tensor,
    });
    await assertFile(
      `${folder}/x`,
      referenceFile([
        {
          name: "ids",
          dtype: "I32",
          shape: [2],
          bytes: new Uint8Array([7, 0, 0, 0, 0xf8, 0xff, 0xff, 0xff]),
        },
        { name: "w", dtype: "F16", shape: [1], bytes: new Uint8Array([0, 0x3e]) },
      ]),
    );
  });

  test("map can reuse the memory of its result in the next call", async (folder) => {
    const names = Array.from({ length: 5 }, (_, index) => `t${index}`);
    const stream = async function* () {
      for (const name of names) {
        yield await Promise.resolve([name, { dtype: "U8", shape: [0], data: new Uint8Array() }] as const);
      }
    };
    for (const length of [100, 3 * 2 ** 20 + 1]) {
      const memory = new Uint8Array(length);
      await saveFile(stream(), `${folder}/x`, {
        overwrite: true,
        map: (name) => ({ dtype: "U8", shape: [length], data: memory.fill(Number(name.slice(1)) + 1) }),
      });
      const expected = names.map((name, index) => {
        return { name, dtype: "U8", shape: [length], bytes: new Uint8Array(length).fill(index + 1) } as const;
      });
      await assertFile(`${folder}/x`, referenceFile(expected));
    }
  });

  test("saveFile() with map cuts shards in the order of the model, with sizes as text", async (folder) => {
    const data = written(["c", "a", "d", "b"].map((name) => ({ name, dtype: "U8", shape: [1000] })));
    const path = `${folder}/in.safetensors`;
    await writeFile(path, data);
    await using model = await fastsafeOpen(path);
    const { paths } = await saveFile(model, `${folder}/out/model.safetensors`, {
      maxShardBytes: "4kB",
      map: (name, tensor) => ({ [name]: tensor, [`${name}.copy`]: tensor }),
    });
    const shard = (number: number) => `${folder}/out/model-0000${number}-of-00002.safetensors`;
    assertEquals(paths, [shard(1), shard(2), `${folder}/out/model.safetensors.index.json`]);
    const twice = (name: string) => {
      const tensor = data.find((one) => one.name === name)!;
      return [tensor, { ...tensor, name: `${name}.copy` }];
    };
    const order = model.keys();
    await assertFiles(shard(1), order.slice(0, 2).flatMap(twice));
    await assertFiles(shard(2), order.slice(2).flatMap(twice));
  });

  test("map is called once for tensors of the same memory, and aliases follow their tensor", async (folder) => {
    const embed = { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } as const;
    const other = { dtype: "U8", shape: [1], data: new Uint8Array([3]) } as const;
    const called: string[] = [];
    const { aliases } = await saveFile({ embed, head: embed, gone: other, twin: other }, `${folder}/x`, {
      map(name, tensor) {
        called.push(name);
        return name === "gone" ? null : { renamed: tensor };
      },
    });
    assertEquals([called.sort(), aliases], [["embed", "gone"], new Map([["head", "renamed"]])]);
    await assertFile(
      `${folder}/x`,
      referenceFile([{ ...embed, name: "renamed", bytes: embed.data }], { head: "renamed" }),
    );
  });

  test("map disposes results on a device after their copy, and does not dispose those of a record", async (folder) => {
    const data = new Uint8Array([1, 2]);
    const disposed: string[] = [];
    const onDevice = (name: string) => ({
      dtype: "U8" as const,
      shape: [2],
      copyToHost: () => Promise.resolve({ data }),
      [Symbol.dispose]: () => void disposed.push(name),
    });
    await saveFile({ a: onDevice("a"), b: onDevice("b") }, `${folder}/x`, {
      map: (name, tensor) => name === "a" ? tensor : onDevice("new b"),
    });
    assertEquals(disposed, ["new b"]);
    const bytes = data;
    await assertFile(
      `${folder}/x`,
      referenceFile(["a", "b"].map((name) => ({ name, dtype: "U8", shape: [2], bytes }))),
    );
  });

  test("a save whose map fails changes nothing and leaves no file", async (folder) => {
    const data = written(SPECS);
    await saveFile({ old: { dtype: "U8", shape: [1], data: new Uint8Array([9]) } }, `${folder}/x`);
    const before = await Deno.readFile(`${folder}/x`);
    // deno-lint-ignore no-explicit-any
    const save = (map: any, more = {}) =>
      saveFile(pairs(data), `${folder}/x`, { map, overwrite: true, ...more });
    const failures = [
      ["Error", "of the user", () => Promise.reject(new Error("of the user"))],
      ["TypeError", 'Cannot save tensor "layer.w": map must return a tensor', () => undefined],
      ["TypeError", "got a Uint8Array", () => new Uint8Array(4)],
      ["TypeError", 'Cannot write tensor "a": a tensor is { dtype, shape, data }, got 7', () => ({ a: 7 })],
      ["TypeError", "F32 wants", () => ({ dtype: "F32", shape: [1], data: new Int32Array(1) })],
      [
        "SafeTensorsError",
        "is the result of two tensors",
        (_: string, tensor: unknown) => ({ same: tensor }),
      ],
      [
        "SafeTensorsError",
        "F32 of shape [2] is 8 bytes, its data has 4",
        () => ({ dtype: "F32", shape: [2], data: new Float32Array(1) }),
      ],
    ] as const;
    for (const [name, text, map] of failures) {
      const error = await assertRejects(() => save(map), Error, text);
      assertEquals(error.name, name);
    }
    await assertRejects(() => save("x"), TypeError, "map must be a function");
    await assertRejects(() => save(() => null, { shapes: [] }), TypeError, "cannot be used together");
    const stop = new AbortController();
    const stopped = (_: string, tensor: unknown) => {
      stop.abort(new Error("stopped"));
      return tensor;
    };
    await assertRejects(() => save(stopped, { signal: stop.signal }), Error, "stopped");
    const end = new AbortController();
    setTimeout(() => end.abort(new Error("ended")), 5);
    await assertRejects(() => save(() => new Promise(() => {}), { signal: end.signal }), Error, "ended");
    assertEquals([namesIn(folder), await Deno.readFile(`${folder}/x`)], [["x"], before]);
  });

  test("an existing file is an error before map is called", async (folder) => {
    const x = { dtype: "U8", shape: [1], data: new Uint8Array([9]) } as const;
    await saveFile({ x }, `${folder}/x`);
    const map = () => {
      throw new Error("not expected");
    };
    const error = await assertRejects(() => saveFile({ x }, `${folder}/x`, { map }), SafeTensorsError);
    assertEquals([error.code, namesIn(folder)], ["FileExists", ["x"]]);
  });

  test("the progress of a save with map never goes back, and ends with the totals", async (folder) => {
    const data = written(SPECS);
    const path = `${folder}/in.safetensors`;
    await writeFile(path, data);
    await using model = await fastsafeOpen(path);
    const reports: Progress[] = [];
    await saveFile(model, `${folder}/x`, {
      map: (name, tensor) => name === "large" ? null : tensor,
      onProgress: (progress) => void reports.push(progress),
    });
    const last = reports.at(-1)!;
    assertEquals([last.bytes, last.tensors, last.totalTensors], [last.totalBytes, 5, 5]);
    for (const [index, { bytes }] of reports.entries()) assert(bytes >= (reports[index - 1]?.bytes ?? 0));
  });

  test("saveFile() writes a model with a cast or a shard plan as its tensors are", async (folder) => {
    const w = { dtype: "F32", shape: [4, 2], data: new Float32Array([1, 2, 3, 4, 5, 6, 7, 8]) } as const;
    const v = { dtype: "F32", shape: [3], data: new Float32Array([1, 2, 3]) } as const;
    await saveFile({ w, v }, `${folder}/in.safetensors`);
    const part = { dtype: "F16", shape: [2, 2], data: new Float16Array([5, 6, 7, 8]) } as const;
    await saveFile(
      { w: part, v: { ...v, dtype: "F16", data: new Float16Array([1, 2, 3]) } },
      `${folder}/out`,
    );
    const group = { rank: 1, size: 2 } as never;
    for (const lazy of [false, true]) {
      for (const map of [undefined, <T>(_name: string, tensor: T) => tensor]) {
        await using model = await fastsafeOpen(`${folder}/in.safetensors`, {
          lazy,
          dtype: "F16",
          group,
          shardPlan: { w: 0 },
        });
        await saveFile(model, `${folder}/x`, { overwrite: true, ...map ? { map } : {} });
        await assertFile(`${folder}/x`, await Deno.readFile(`${folder}/out`));
      }
    }
  });
}
