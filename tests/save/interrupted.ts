/**
 * Saves whose process ended during a commit: opening changes nothing, a save of the same set or `repair` completes
 * them, and a journal that no save of this user wrote is rejected.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, SafeTensorsError, saveFile, WriteError } from "../../mod.ts";
import { convertPyTorch, openPyTorch } from "../../src/pytorch/mod.ts";
import { carryOutIfUnchanged, findLeftovers } from "../../src/save/repair.ts";
import type { DefineTest } from "../load/context.ts";
import { fileOf, type Written } from "../support/models.ts";
import { assertModel, namesIn, pairs, tensors } from "./support.ts";

/** The journal of a set named "model", and the one that version 0.1 wrote. */
const JOURNALS = [".model.fastsafetensors.json", ".fastsafetensors-commit.json"] as const;

const TEMPORARY = (letter: string) => `.fastsafetensors-${letter.repeat(12)}.tmp`;

const UID = Deno.uid()!;

/** The content of a folder: names, kinds, and the bytes of files. */
function contents(folder: string): Map<string, string> {
  return new Map(
    namesIn(folder).map((name) => {
      const { isFile, isSymlink, size, mtime } = Deno.lstatSync(`${folder}/${name}`);
      const what = isSymlink ? `link to ${Deno.readLinkSync(`${folder}/${name}`)}` : "other";
      const isSmall = isFile && size < 2 ** 20;
      return [
        name,
        `${isSmall ? Deno.readFileSync(`${folder}/${name}`).toBase64() : what} ${mtime?.getTime()}`,
      ];
    }),
  );
}

/** The folder after a save of two shards over three that was killed during the commit. */
async function interrupt(
  folder: string,
  steps: number,
  journal: string = JOURNALS[0],
): Promise<{ old: Written[]; data: Written[] }> {
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
  await Deno.writeTextFile(`${folder}/${journal}`, JSON.stringify({ hide, place }));
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

async function assertInterrupted(call: () => Promise<unknown>, path: string, action = "open"): Promise<void> {
  const folder = path.replace(/\/[^/]*\.(safetensors|json)$/, "");
  const error = await assertRejects(call, SafeTensorsError);
  assertEquals([error.code, error.path, error.message], [
    "InterruptedSave",
    path,
    `Cannot ${action} "${path}": a save there was interrupted: save it again over what is there, or run ` +
    `"fastsafetensors repair ${folder}"`,
  ]);
}

export function interruptedTests(test: DefineTest): void {
  for (const journal of JOURNALS) {
    test(`opening does not change an interrupted save, and names repair: ${journal}`, async (folder) => {
      for (let steps = 0; steps <= STEPS; steps++) {
        const here = `${folder}/${steps}`;
        await Deno.mkdir(here);
        const { old, data } = await interrupt(here, steps, journal);
        const before = contents(here);
        await assertInterrupted(() => fastsafeOpen(here), here);
        const index = `${here}/model.safetensors.index.json`;
        // An index under its final name belongs to a complete set: a commit removes it first and creates it last.
        if (steps === 0) await assertModel(index, old);
        else if (steps === STEPS) await assertModel(index, data);
        else await assertInterrupted(() => fastsafeOpen(index), index);
        const shard = `${here}/model-00002-of-00002.safetensors`;
        if (steps < STEPS - 1) await assertInterrupted(() => fastsafeOpen(shard), shard);
        else await assertModel(shard, data.slice(1));
        assertEquals(contents(here), before);
      }
    });

    test(`a save of the same set with overwrite completes an interrupted one: ${journal}`, async (folder) => {
      for (let steps = 0; steps <= STEPS; steps++) {
        const here = `${folder}/${steps}`;
        await Deno.mkdir(here);
        await interrupt(here, steps, journal);
        const before = contents(here);
        const path = `${here}/model.safetensors`;
        await assertInterrupted(() => saveFile(pairs(tensors(1, 99)), path), path, "save");
        assertEquals(contents(here), before);
        const stop = new Error("enough");
        const stream = async function* () {
          yield* pairs(tensors(1, 99));
          await Promise.reject(stop);
        };
        const shapes = tensors(2, 99);
        assertEquals(await assertRejects(() => saveFile(stream(), path, { shapes, overwrite: true })), stop);
        assertEquals(namesIn(here), NEW_NAMES);
        await saveFile(pairs(tensors(1, 99)), path, { overwrite: true });
        assertEquals(namesIn(here), ["model.safetensors"]);
        await assertModel(here, tensors(1, 99));
      }
    });

    test(`saves of other sets do not change an interrupted one, and repair completes it: ${journal}`, async (folder) => {
      for (let steps = 0; steps <= STEPS; steps++) {
        const here = `${folder}/${steps}`;
        await Deno.mkdir(here);
        const { data } = await interrupt(here, steps, journal);
        const before = contents(here);
        for (const maxShardBytes of [100, 4, 100]) {
          await saveFile(pairs(tensors(2, 70)), `${here}/x.safetensors`, { maxShardBytes, overwrite: true });
        }
        await assertModel(`${here}/x.safetensors`, tensors(2, 70));
        await Deno.remove(`${here}/x.safetensors`);
        assertEquals(contents(here), before);
        const { repairs, refused } = await findLeftovers(here, UID);
        assertEquals([repairs.length, refused, contents(here)], [1, [], before]);
        await carryOutIfUnchanged(repairs[0]!, UID);
        assertEquals(namesIn(here), NEW_NAMES);
        await assertModel(here, data);
        assertEquals(await findLeftovers(here, UID), { repairs: [], refused: [] });
      }
    });
  }

  test("an interrupted commit can be finished from every state of the storage", async (folder) => {
    for (let steps = 0; steps <= STEPS; steps++) {
      const here = `${folder}/${steps}`;
      await Deno.mkdir(here);
      const { data } = await interrupt(here, steps);
      const journal = await Deno.readFile(`${here}/${JOURNALS[0]}`);
      for (let n = 0; n < 3; n++) {
        const { repairs } = await findLeftovers(here, UID);
        assertEquals(repairs.map(({ kind }) => kind), ["complete"]);
        await carryOutIfUnchanged(repairs[0]!, UID);
        assertEquals(namesIn(here), NEW_NAMES);
        await Deno.writeFile(`${here}/${JOURNALS[0]}`, journal);
        if (n === 1) {
          await Deno.writeTextFile(`${here}/${TEMPORARY("2")}`, "a hidden one that was not removed");
        }
      }
      await assertModel(`${here}/model.safetensors.index.json`, data);
    }
  });

  test("two interrupted sets in a folder are completed one by one", async (folder) => {
    const { data } = await interrupt(folder, 5);
    await Deno.writeFile(`${folder}/${TEMPORARY("e")}`, fileOf([tensors(1, 3)[0]!]).bytes);
    const other = { hide: [], place: [[TEMPORARY("e"), "other.safetensors"]] };
    await Deno.writeTextFile(`${folder}/.other.fastsafetensors.json`, JSON.stringify(other));
    await saveFile({}, `${folder}/third.safetensors`);
    const { repairs } = await findLeftovers(folder, UID);
    assertEquals(repairs.map(({ stem }) => stem), ["model", "other"]);
    for (const repair of repairs) await carryOutIfUnchanged(repair, UID);
    assertEquals(namesIn(folder), [...NEW_NAMES, "other.safetensors", "third.safetensors"]);
    await assertModel(`${folder}/model.safetensors.index.json`, data);
  });

  test("files outside of an interrupted set open as usual, and checkpoints ignore journals", async (folder) => {
    await interrupt(folder, 5);
    await Deno.writeFile(`${folder}/other.safetensors`, fileOf(tensors(1, 3)).bytes);
    await Deno.copyFile(
      new URL("../data/pytorch/parameters.pt", import.meta.url),
      `${folder}/pytorch_model.bin`,
    );
    const before = contents(folder);
    await assertModel(`${folder}/other.safetensors`, tensors(1, 3));
    await assertRejects(() => fastsafeOpen(`${folder}/nothing.safetensors`), Error, "no such file");
    await using model = await openPyTorch(folder);
    assertEquals(model.keys().length > 0, true);
    await convertPyTorch(folder, undefined, { dryRun: true });
    assertEquals(contents(folder), before);
  });

  lossTests(test);
  refusalTests(test);
}

function lossTests(test: DefineTest): void {
  test("repair restores the old set if the new files are missing", async (folder) => {
    for (let steps = 0; steps <= 4; steps++) {
      for (const gone of [["a"], ["c"], ["a", "b", "c"]]) {
        const here = `${folder}/${steps}-${gone.length}-${gone[0]}`;
        await Deno.mkdir(here);
        const { old } = await interrupt(here, steps);
        const names = ["model-00001-of-00003", "model-00002-of-00003", "model-00003-of-00003"];
        for (const letter of gone) await Deno.remove(`${here}/${TEMPORARY(letter)}`);
        const { repairs } = await findLeftovers(here, UID);
        assertEquals(repairs.map(({ kind }) => kind), ["undo"], `${steps} ${gone}`);
        await carryOutIfUnchanged(repairs[0]!, UID);
        assertEquals(namesIn(here), [
          ...names.map((name) => `${name}.safetensors`),
          "model.safetensors.index.json",
        ]);
        await assertModel(here, old);
      }
    }
  });

  test("a set with missing old and missing new files is rejected and not changed", async (folder) => {
    const cases: [steps: number, gone: string[]][] = [
      [5, [TEMPORARY("b")]], // some new files have their names, one is lost
      [3, [TEMPORARY("a"), TEMPORARY("1")]], // a new file and an old file are lost
    ];
    for (const [steps, gone] of cases) {
      const here = `${folder}/${steps}`;
      await Deno.mkdir(here);
      await interrupt(here, steps);
      for (const name of gone) await Deno.remove(`${here}/${name}`);
      const before = contents(here);
      const { repairs, refused } = await findLeftovers(here, UID);
      assertEquals([repairs, refused.length], [[], 1]);
      const overwrite = { overwrite: true };
      await assertRejects(
        () => saveFile({}, `${here}/model.safetensors`, overwrite),
        WriteError,
        "does not exist, also not under its temporary name",
      );
      assertEquals(contents(here), before);
    }
  });

  test("a file that was created under the name of a new one is not replaced", async (folder) => {
    for (const name of ["model-00001-of-00002.safetensors", "model.safetensors.index.json"]) {
      const here = `${folder}/${name}`;
      await Deno.mkdir(here);
      await interrupt(here, 4);
      await Deno.writeTextFile(`${here}/${name}`, "theirs");
      const before = contents(here);
      const { repairs, refused } = await findLeftovers(here, UID);
      assertEquals(repairs, []);
      assertEquals(refused.map(({ message }) => message), [
        `Cannot finish the interrupted save of "${here}/${JOURNALS[0]}": "${here}/${name}" was created ` +
        "since: move it away",
      ]);
      assertEquals(contents(here), before);
    }
  });

  test("a repair is not executed if files have changed since its plan", async (folder) => {
    await interrupt(folder, 3);
    const { repairs: [repair] } = await findLeftovers(folder, UID);
    await Deno.rename(`${folder}/model-00001-of-00003.safetensors`, `${folder}/${TEMPORARY("3")}`);
    await assertRejects(() => carryOutIfUnchanged(repair!, UID), WriteError, "files have changed meanwhile");
  });
}

function refusalTests(test: DefineTest): void {
  const [a, b, c] = ["a", "b", "c"].map(TEMPORARY) as [string, string, string];
  const member = "model-00001-of-00002.safetensors";
  const contentsRefused: [what: string, text: string, reason: string][] = [
    ["that is empty", "", "not a journal"],
    ["that is null", "null", "not a journal"],
    ["that is a list", "[]", "not a journal"],
    ["without lists", "{}", "not a journal"],
    ["that places nothing", JSON.stringify({ hide: [["model.safetensors", a]], place: [] }), "not a journal"],
    [
      "that places what is not temporary",
      JSON.stringify({ hide: [], place: [["x", member]] }),
      "not a journal",
    ],
    [
      "that hides under a plain name",
      JSON.stringify({ hide: [[member, "x"]], place: [[a, member]] }),
      "not a journal",
    ],
    ["with a triple", JSON.stringify({ hide: [], place: [[a, member, "x"]] }), "not a journal"],
    ["with a number", JSON.stringify({ hide: [], place: [[a, 1]] }), "not a journal"],
    [
      "that names a file twice",
      JSON.stringify({ hide: [], place: [[a, member], [b, member]] }),
      "not a journal",
    ],
    [
      "that uses a temporary file twice",
      JSON.stringify({ hide: [[member, a]], place: [[a, member]] }),
      "not a journal",
    ],
    ...["../model.safetensors", "sub/model.safetensors", "..", "model\\x.safetensors", ""].map((
      name,
    ): [string, string, string] => [
      `that names ${JSON.stringify(name)}`,
      JSON.stringify({ hide: [], place: [[a, name]] }),
      "not a journal",
    ]),
    ...["thesis.docx", "other.safetensors", "model2.safetensors", "model", "model.safetensors.bak"].map((
      name,
    ): [string, string, string] => [
      `that hides "${name}"`,
      JSON.stringify({ hide: [[name, c]], place: [[a, "model.safetensors"]] }),
      `it names "${name}", which is not a file of that set`,
    ]),
    [
      `that places "config.json"`,
      JSON.stringify({ hide: [], place: [[a, "model.safetensors"], [b, "config.json"]] }),
      'it names "config.json"',
    ],
  ];

  /** Writes a journal of each kind, and fails unless it is rejected and nothing changes. */
  async function assertRefused(
    folder: string,
    lay: (path: string) => void | Promise<void>,
    reason: string,
    uid = UID,
  ): Promise<void> {
    for (const [n, journal] of JOURNALS.entries()) {
      const here = `${folder}/${n}`;
      await Deno.mkdir(here);
      await Deno.writeTextFile(`${here}/thesis.docx`, "years of work");
      for (const name of [a, b, "model.safetensors", "other.safetensors"]) {
        await Deno.writeFile(`${here}/${name}`, fileOf(tensors(1, 5)).bytes);
      }
      await lay(`${here}/${journal}`);
      const before = contents(here);
      const path = `${here}/${journal}`;
      const { repairs, refused } = await findLeftovers(here, uid);
      assertEquals(repairs, []);
      const [{ message, path: refusedPath }] = refused as [WriteError];
      assertEquals([message.includes(`"${path}": `), message.includes(reason), refusedPath], [
        true,
        true,
        path,
      ], message);
      if (uid === UID) {
        const save = () => saveFile({}, `${here}/model.safetensors`, { overwrite: true });
        assertEquals((await assertRejects(save, WriteError)).message, message);
      }
      await fastsafeOpen(here).catch(() => {});
      await fastsafeOpen(`${here}/gone.safetensors`).catch(() => {});
      await fastsafeOpen(`${here}/model-00001-of-00002.safetensors`).catch(() => {});
      await assertModel(`${here}/other.safetensors`, tensors(1, 5));
      assertEquals(contents(here), before);
    }
  }

  for (const [what, text, reason] of contentsRefused) {
    test(`a journal is rejected ${what}`, async (folder) => {
      await assertRefused(folder, (path) => Deno.writeTextFile(path, text), reason);
    });
  }

  const good = JSON.stringify({ hide: [["model.safetensors", c]], place: [[a, "model.safetensors"]] });

  test("a journal that is a link, a folder, a FIFO, or too large is rejected", async (folder) => {
    await Deno.writeTextFile(`${folder}/good`, good);
    const kinds: [string, (path: string) => void | Promise<void>][] = [
      ["it is a link", (path) => Deno.symlink(`${folder}/good`, path)],
      ["it is a link", (path) => Deno.symlink("/nowhere", path)],
      ["it is a folder", (path) => Deno.mkdir(path)],
      ["it is a FIFO", async (path) => void await new Deno.Command("mkfifo", { args: [path] }).output()],
      ["the limit is", async (path) => {
        await Deno.writeTextFile(path, good);
        await Deno.truncate(path, 2 ** 30);
      }],
    ];
    for (const [n, [reason, lay]] of kinds.entries()) {
      await Deno.mkdir(`${folder}/${n}`);
      await assertRefused(`${folder}/${n}`, lay, reason);
    }
  });

  test("a journal of another user is rejected", async (folder) => {
    await assertRefused(
      folder,
      (path) => Deno.writeTextFile(path, good),
      "it belongs to another user",
      UID + 1,
    );
    if (UID !== 0) return;
    // Only root can create one: the save compares the owner with that of its own files.
    await Deno.mkdir(`${folder}/owned`);
    const path = `${folder}/owned/model.safetensors`;
    await saveFile(pairs(tensors(1, 1)), path);
    await Deno.writeFile(`${folder}/owned/${a}`, fileOf(tensors(1, 5)).bytes);
    for (const [journal, isRefused] of [[JOURNALS[0], true], [JOURNALS[1], false]] as const) {
      await Deno.writeTextFile(`${folder}/owned/${journal}`, good);
      await Deno.chown(`${folder}/owned/${journal}`, 12345, null);
      const save = saveFile(pairs(tensors(1, 9)), path, { overwrite: true });
      // The journal of version 0.1 concerns every set: another user's journal must not block saves in the folder.
      if (isRefused) await assertRejects(() => save, WriteError, "it belongs to another user (uid 12345)");
      else await save;
      await assertModel(path, tensors(1, isRefused ? 1 : 9));
      assertEquals(namesIn(`${folder}/owned`), [a, journal, "model.safetensors"]);
      await Deno.remove(`${folder}/owned/${journal}`);
    }
  });

  test("a journal whose files are links, folders or other kinds is rejected", async (folder) => {
    for (const [n, name] of [a, "model.safetensors", c].entries()) {
      const here = `${folder}/${n}`;
      await Deno.mkdir(here);
      await Deno.writeTextFile(`${here}/${JOURNALS[0]}`, good);
      for (const file of [a, "model.safetensors"]) await Deno.writeTextFile(`${here}/${file}`, "x");
      await Deno.remove(`${here}/${name}`).catch(() => {});
      if (n === 1) await Deno.mkdir(`${here}/${name}`);
      else await Deno.symlink("../victim", `${here}/${name}`);
      await Deno.writeTextFile(`${folder}/victim`, "mine");
      const before = contents(here);
      const { repairs, refused } = await findLeftovers(here, UID);
      assertEquals([repairs, refused.length], [[], 1]);
      const save = () => saveFile({}, `${here}/model.safetensors`, { overwrite: true });
      await assertRejects(save, WriteError, name);
      assertEquals([contents(here), await Deno.readTextFile(`${folder}/victim`)], [before, "mine"]);
    }
  });

  test("a journal cannot rename files through a link: only files of a save are renamed", async (folder) => {
    await Deno.mkdir(`${folder}/home`);
    await Deno.mkdir(`${folder}/archive`);
    await Deno.writeTextFile(`${folder}/home/key`, "secret");
    const here = `${folder}/archive`;
    await Deno.symlink("../home/key", `${here}/model.safetensors`);
    await Deno.writeTextFile(`${here}/${JOURNALS[0]}`, good);
    await Deno.writeTextFile(`${here}/${a}`, "evil");
    const { repairs } = await findLeftovers(here, UID);
    for (const repair of repairs) await carryOutIfUnchanged(repair, UID);
    assertEquals(await Deno.readTextFile(`${folder}/home/key`), "secret");
    assertEquals(namesIn(`${folder}/home`), ["key"]);
  });
}
