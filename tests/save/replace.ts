/**
 * Replacing what is there, and finishing or removing what a process that is gone has left.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, ReadError, SafeTensorsError, saveFile, WriteError } from "../../mod.ts";
import { openCatalog } from "../../src/catalog.ts";
import { resolveInputs } from "../../src/inputs.ts";
import { selectEngine } from "../../src/lanes/select.ts";
import { JOURNAL_NAME } from "../../src/save/journal.ts";
import type { DefineTest } from "../load/context.ts";
import { fileOf, type Written } from "../support/models.ts";
import { assertFile, assertFiles, namesIn, pairs, referenceFile, written } from "./support.ts";

/** Tensors of 4 bytes each: `maxShardBytes` of 4 puts each into a shard of its own. */
function tensors(count: number, seed: number): Written[] {
  return written(Array.from({ length: count }, (_, n) => {
    return { name: `t${n}`, dtype: "U8", shape: [4], bytes: new Uint8Array(4).fill(seed + n) } as const;
  }));
}

const TEMPORARY = (letter: string) => `.fastsafetensors-${letter.repeat(12)}.tmp`;

async function assertModel(path: string, expected: readonly Written[]): Promise<void> {
  await using model = await fastsafeOpen(path);
  assertEquals(model.keys().sort(), expected.map(({ name }) => name).sort());
  for (const { name, bytes } of expected) assertEquals((await model.getTensor(name)).bytes, bytes);
}

export function replaceTests(test: DefineTest): void {
  test("a save replaces a set of any other number of files, and leaves nothing of it", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await Deno.writeTextFile(`${folder}/config.json`, "{}");
    await Deno.writeTextFile(`${folder}/model-00001-of-00009.safetensors`, "not of the set");
    let seed = 0;
    for (const count of [1, 3, 2, 2, 1, 4, 1, 1, 3]) {
      const data = tensors(count, seed += 10);
      const { paths } = await saveFile(pairs(data), path, { maxShardBytes: 4, overwrite: true });
      assertEquals(paths.length, count === 1 ? 1 : count + 1);
      await assertModel(paths.at(-1)!, data);
      const names = paths.map((path) => path.slice(folder.length + 1));
      assertEquals(namesIn(folder), [...names, "config.json", "model-00001-of-00009.safetensors"].sort());
    }
  });

  test("a save replaces a set that was named by others, and what its index does not know stays", async (folder) => {
    const weightMap = {
      a: "part-a.safetensors",
      b: "part-b.safetensors",
      c: "README.md",
      d: "gone.safetensors",
    };
    for (const name of Object.values(weightMap).slice(0, 3)) {
      await Deno.writeTextFile(`${folder}/${name}`, "old");
    }
    const index = `${folder}/model.safetensors.index.json`;
    await Deno.writeTextFile(index, JSON.stringify({ weight_map: weightMap }));
    await saveFile(pairs(tensors(1, 1)), `${folder}/model.safetensors`, { overwrite: true });
    assertEquals(namesIn(folder), ["README.md", "model.safetensors"]);
  });

  test("a save replaces an index that cannot be read", async (folder) => {
    for (const text of ["", "{", '{"weight_map": {"a": "../x.safetensors"}}', "[]"]) {
      await Deno.writeTextFile(`${folder}/model.safetensors.index.json`, text);
      await saveFile(pairs(tensors(1, 1)), `${folder}/model.safetensors`, { overwrite: true });
      assertEquals(namesIn(folder), ["model.safetensors"]);
    }
  });

  test("a save replaces links and not what they point to", async (folder) => {
    await Deno.mkdir(`${folder}/blobs`);
    await Deno.mkdir(`${folder}/snapshot`);
    const old = tensors(2, 1), path = `${folder}/snapshot/model.safetensors`;
    await saveFile(pairs(old), `${folder}/blobs/model.safetensors`, { maxShardBytes: 4 });
    for (const name of namesIn(`${folder}/blobs`)) {
      await Deno.symlink(`../blobs/${name}`, `${folder}/snapshot/${name}`);
    }
    for (const maxShardBytes of [4, 100]) {
      const data = tensors(2, 100);
      await saveFile(pairs(data), path, { maxShardBytes, overwrite: true });
      await assertModel(`${folder}/snapshot`, data);
    }
    await assertModel(`${folder}/blobs`, old);
    assertEquals(namesIn(`${folder}/snapshot`), ["model.safetensors"]);
  });

  test("whoever has the old file open keeps it", async (folder) => {
    const path = `${folder}/x.safetensors`;
    const old = written([{ name: "x", dtype: "U8", shape: [2 ** 20] }]);
    await saveFile(pairs(old), path);
    await using model = await fastsafeOpen(path, { lazy: true });
    await saveFile(pairs(tensors(1, 1)), path, { overwrite: true });
    assertEquals((await model.getTensor("x")).bytes, old[0]!.bytes);
  });

  test("temporaries are recognisable, and removed by the next save once their process is gone", async (folder) => {
    const abandoned = [TEMPORARY("a"), TEMPORARY("0")];
    const others = [".fastsafetensors-xyz.tmp", ".fastsafetensors-aaaaaaaaaaaa.tmp.txt", "x.tmp"];
    for (const name of [...abandoned, ...others]) await Deno.writeTextFile(`${folder}/${name}`, "half");
    await Deno.mkdir(`${folder}/${TEMPORARY("d")}`);
    const during: string[][] = [];
    const stream = async function* () {
      during.push(namesIn(folder));
      await saveFile(pairs(tensors(1, 1)), `${folder}/other`); // does not take away what is being written
      yield* pairs(tensors(1, 5));
    };
    await saveFile(stream(), `${folder}/x`, { shapes: tensors(1, 5) });
    await assertFile(`${folder}/x`, referenceFile(tensors(1, 5)));
    const left = [...others, TEMPORARY("d")];
    assertEquals(namesIn(folder), [...left, "other", "x"].sort());
    const [temporary, ...more] = during[0]!.filter((name) => !left.includes(name));
    assert(/^\.fastsafetensors-[0-9a-f]{12}\.tmp$/.test(temporary!) && more.length === 0, String(during[0]));
  });

  test("a temporary that somebody else has locked stays", async (folder) => {
    using file = await Deno.open(`${folder}/${TEMPORARY("b")}`, { create: true, write: true });
    await file.lock(true);
    await saveFile({}, `${folder}/x`);
    assertEquals(namesIn(folder), [TEMPORARY("b"), "x"]);
  });

  journalTests(test);
  incompleteTests(test);
}

/** A folder as a save leaves it that is killed in the midst of a commit of two shards over three. */
async function interrupt(folder: string, steps: number): Promise<{ old: Written[]; data: Written[] }> {
  const old = tensors(3, 10), data = tensors(2, 50);
  await saveFile(pairs(old), `${folder}/model.safetensors`, { maxShardBytes: 4 });
  const hide = namesIn(folder).toReversed().map((name, n): [string, string] => [name, TEMPORARY("0123"[n]!)]);
  const shards = [1, 2].map((n) => `model-0000${n}-of-00002.safetensors`);
  const index = { weight_map: { t0: shards[0], t1: shards[1] } };
  const files: [string, Uint8Array][] = [
    ...shards.map((name, n): [string, Uint8Array] => [name, fileOf([data[n]!]).bytes]),
    ["model.safetensors.index.json", new TextEncoder().encode(JSON.stringify(index))],
  ];
  const place: [string, string][] = [];
  for (const [n, [name, bytes]] of files.entries()) {
    place.push([TEMPORARY("abc"[n]!), name]);
    await Deno.writeFile(`${folder}/${place[n]![0]}`, bytes);
  }
  await Deno.writeTextFile(`${folder}/${JOURNAL_NAME}`, JSON.stringify({ hide, place }));
  for (const [from, to] of [...hide, ...place].slice(0, steps)) {
    await Deno.rename(`${folder}/${from}`, `${folder}/${to}`);
  }
  return { old, data };
}

/** Four old files, three new ones. */
const STEPS = 7;

const NEW_NAMES = [
  "model-00001-of-00002.safetensors",
  "model-00002-of-00002.safetensors",
  "model.safetensors.index.json",
];

function journalTests(test: DefineTest): void {
  test("a commit that was interrupted anywhere is finished by the next save in the folder", async (folder) => {
    for (let steps = 0; steps <= STEPS; steps++) {
      const here = `${folder}/${steps}`;
      await Deno.mkdir(here);
      const { data } = await interrupt(here, steps);
      await saveFile({}, `${here}/other.safetensors`);
      assertEquals(namesIn(here), [...NEW_NAMES, "other.safetensors"]);
      await assertModel(`${here}/model.safetensors.index.json`, data);
    }
  });

  test("a commit that was interrupted anywhere never shows a mixture to who opens the model", async (folder) => {
    for (const input of ["", "/model.safetensors.index.json"]) {
      for (let steps = 0; steps <= STEPS; steps++) {
        const here = `${folder}/${input.length}-${steps}`;
        await Deno.mkdir(here);
        const { old, data } = await interrupt(here, steps);
        // Before its first step all of the old set is there, and its index names nothing else.
        await assertModel(`${here}${input}`, input && steps === 0 ? old : data);
        await assertModel(here, data);
        assertEquals(namesIn(here), NEW_NAMES);
      }
    }
  });

  test("an interrupted commit can be finished again and again", async (folder) => {
    const { data } = await interrupt(folder, 5);
    const journal = await Deno.readTextFile(`${folder}/${JOURNAL_NAME}`);
    for (let n = 0; n < 2; n++) {
      await saveFile({}, `${folder}/other`, { overwrite: true });
      await Deno.writeTextFile(`${folder}/${JOURNAL_NAME}`, journal);
    }
    await assertModel(`${folder}/model.safetensors.index.json`, data);
  });

  test("what replaces the interrupted set replaces it as a whole", async (folder) => {
    await interrupt(folder, 3);
    const data = tensors(1, 99);
    await saveFile(pairs(data), `${folder}/model.safetensors`, { overwrite: true });
    assertEquals(namesIn(folder), ["model.safetensors"]);
    await assertModel(folder, data);
  });

  test("a journal that is none is refused, and touches nothing", async (folder) => {
    await Deno.writeTextFile(`${folder}/victim`, "mine");
    await Deno.writeTextFile(`${folder}/${TEMPORARY("a")}`, "theirs");
    const bad = [
      "",
      "null",
      "[]",
      "{}",
      '{"hide":[],"place":[["a","b"]]}',
      `{"hide":[["victim","elsewhere"]],"place":[]}`,
      `{"hide":[["../victim","${TEMPORARY("b")}"]],"place":[]}`,
      `{"hide":[],"place":[["${TEMPORARY("a")}","../../x"]]}`,
      `{"hide":[],"place":[["${TEMPORARY("a")}",".."]]}`,
      `{"hide":[],"place":[["${TEMPORARY("a")}","victim","x"]]}`,
      `{"hide":[],"place":[["${TEMPORARY("a")}",1]]}`,
    ];
    for (const text of bad) {
      await Deno.writeTextFile(`${folder}/${JOURNAL_NAME}`, text);
      const message =
        `Cannot finish the interrupted save of "${folder}/${JOURNAL_NAME}": this is no journal of a save: remove it`;
      const error = await assertRejects(() => saveFile({}, `${folder}/x`), WriteError);
      assertEquals([error.message, error.path], [message, `${folder}/${JOURNAL_NAME}`]);
      await assertRejects(() => fastsafeOpen(folder), ReadError, message);
      await assertRejects(() => fastsafeOpen(`${folder}/x`), ReadError, message);
    }
    assertEquals(namesIn(folder), [TEMPORARY("a"), JOURNAL_NAME, "victim"]);
    assertEquals(await Deno.readTextFile(`${folder}/victim`), "mine");
  });
}

function incompleteTests(test: DefineTest): void {
  test("a set that is replaced between its index and its shards is refused, not mixed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await saveFile(pairs(tensors(2, 1)), path, { maxShardBytes: 4 });
    const { source } = await selectEngine();
    for (const input of [folder, `${path}.index.json`]) {
      const inputs = await resolveInputs(input, { size: 1 });
      for (const maxShardBytes of [4, 100]) {
        await saveFile(pairs(tensors(2, 9)), path, { maxShardBytes, overwrite: true });
        const error = await assertRejects(() => openCatalog(source, inputs), Error);
        const isMissing = error instanceof SafeTensorsError && error.code === "MissingShard";
        assert(
          isMissing || error.message.includes("it was replaced while its shards were opened"),
          error.message,
        );
      }
      await saveFile(pairs(tensors(2, 1)), path, { maxShardBytes: 4, overwrite: true });
    }
  });

  test("a folder of shards that are not all there, without an index, is refused", async (folder) => {
    const data = tensors(3, 1);
    const { paths } = await saveFile(pairs(data), `${folder}/model.safetensors`, { maxShardBytes: 4 });
    await Deno.remove(paths[3]!);
    await assertModel(folder, data);
    for (const missing of [1, 0, 2]) {
      const bytes = await Deno.readFile(paths[missing]!);
      await Deno.remove(paths[missing]!);
      const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError);
      assertEquals([error.code, error.path], ["MissingShard", paths[missing]!]);
      assertEquals(
        error.message,
        `Cannot open "${folder}": 2 of 3 shards are there, "${
          paths[missing]
        }" is not, and there is no index: was a ` +
          "download interrupted?",
      );
      await Deno.writeFile(paths[missing]!, bytes);
    }
    await assertFiles(paths.slice(0, 3), data);
  });

  test("a folder is complete if each set of shards in it is, however it is numbered", async (folder) => {
    const names = [
      "m-1-of-2",
      "m-2-of-2",
      "n-00001-of-000002",
      "n-00002-of-000002",
      "x",
      "a-of-b",
      "k-0-of-2",
      "k-1-of-2",
    ];
    for (const [n, name] of names.entries()) {
      const { bytes } = fileOf([{ name: `t${n}`, dtype: "U8", shape: [1] }]);
      await Deno.writeFile(`${folder}/${name}.safetensors`, bytes);
    }
    await using model = await fastsafeOpen(folder);
    assertEquals(model.keys().length, names.length);
  });

  test("a folder that claims countless shards is refused at once", async (folder) => {
    await Deno.writeFile(`${folder}/m-00001-of-999999999999.safetensors`, fileOf([]).bytes);
    const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError);
    assertEquals(error.path, `${folder}/m-00002-of-999999999999.safetensors`);
  });
}
