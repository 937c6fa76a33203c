/**
 * Replaces existing files, and completes or removes files of a process that ended.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, SafeTensorsError, saveFile, WriteError } from "../../mod.ts";
import { openCatalog } from "../../src/files/catalog.ts";
import { resolveInputs } from "../../src/files/inputs.ts";
import { LocalNames } from "../../src/files/native/local_names.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import type { DefineTest } from "../load/context.ts";
import { fileOf } from "../support/models.ts";
import {
  assertFile,
  assertFiles,
  assertModel,
  namesIn,
  pairs,
  referenceFile,
  tensors,
  written,
} from "./support.ts";

const TEMPORARY = (letter: string) => `.fastsafetensors-${letter.repeat(12)}.tmp`;

export function replaceTests(test: DefineTest): void {
  test("a save replaces a set with another number of files completely", async (folder) => {
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

  test("a save replaces the files in the index of another tool, and keeps the other files", async (folder) => {
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

  linkTests(test);
  accessTests(test);
  poorFileSystemTests(test);

  test("an open descriptor of the replaced file still reads the old file", async (folder) => {
    const path = `${folder}/x.safetensors`;
    const old = written([{ name: "x", dtype: "U8", shape: [2 ** 20] }]);
    await saveFile(pairs(old), path);
    await using model = await fastsafeOpen(path, { lazy: true });
    await saveFile(pairs(tensors(1, 1)), path, { overwrite: true });
    assertEquals((await model.getTensor("x")).bytes, old[0]!.bytes);
  });

  test("the next save removes temporary files whose process has ended", async (folder) => {
    const abandoned = [TEMPORARY("a"), TEMPORARY("0")];
    const others = [".fastsafetensors-xyz.tmp", ".fastsafetensors-aaaaaaaaaaaa.tmp.txt", "x.tmp"];
    for (const name of [...abandoned, ...others]) await Deno.writeTextFile(`${folder}/${name}`, "half");
    await Deno.mkdir(`${folder}/${TEMPORARY("d")}`);
    const during: string[][] = [];
    const stream = async function* () {
      during.push(namesIn(folder));
      await saveFile(pairs(tensors(1, 1)), `${folder}/other`); // does not remove files of a running save
      yield* pairs(tensors(1, 5));
    };
    await saveFile(stream(), `${folder}/x`, { shapes: tensors(1, 5) });
    await assertFile(`${folder}/x`, referenceFile(tensors(1, 5)));
    const left = [...others, TEMPORARY("d")];
    assertEquals(namesIn(folder), [...left, "other", "x"].sort());
    const [temporary, ...more] = during[0]!.filter((name) => !left.includes(name));
    assert(/^\.fastsafetensors-[0-9a-f]{12}\.tmp$/.test(temporary!) && more.length === 0, String(during[0]));
  });

  test("a save keeps a temporary file that another process has locked", async (folder) => {
    using file = await Deno.open(`${folder}/${TEMPORARY("b")}`, { create: true, write: true });
    await file.lock(true);
    await saveFile({}, `${folder}/x`);
    assertEquals(namesIn(folder), [TEMPORARY("b"), "x"]);
  });

  incompleteTests(test);
}

/** Mode, owner and group of a file. */
function accessOf(path: string): string {
  const { mode, uid, gid } = Deno.statSync(path);
  return `${(mode! & 0o7777).toString(8)} ${uid} ${gid}`;
}

function accessTests(test: DefineTest): void {
  const own = `${Deno.uid()} ${Deno.gid()}`;

  test("a save keeps the mode and the owner of the replaced file, and the temporary file is not more readable", async (folder) => {
    const path = `${folder}/x.safetensors`;
    const isRoot = Deno.uid() === 0;
    for (const mode of [0o600, 0o640, 0o444, 0o666, 0o755]) {
      for (const sync of [true, false]) {
        await saveFile(pairs(tensors(1, 1)), path, { overwrite: true });
        if (isRoot) await Deno.chown(path, 12345, 54321);
        await Deno.chmod(path, mode);
        const expected = `${mode.toString(8)} ${isRoot ? "12345 54321" : own}`;
        assertEquals(accessOf(path), expected);
        const stream = async function* () {
          for (const name of namesIn(folder).filter((name) => name.endsWith(".tmp"))) {
            assertEquals(accessOf(`${folder}/${name}`), `600 ${own}`);
          }
          yield* pairs(tensors(1, 3));
          await Promise.resolve();
        };
        await saveFile(stream(), path, { shapes: tensors(1, 3), overwrite: true, sync });
        assertEquals([accessOf(path), namesIn(folder)], [expected, ["x.safetensors"]]);
        await Deno.remove(path);
      }
    }
  });

  test("a set keeps the modes of the replaced set, by name or their common mode", async (folder) => {
    const path = `${folder}/x.safetensors`;
    const modes = (names: string[]) => names.map((name) => accessOf(`${folder}/${name}`).split(" ")[0]);
    await saveFile(pairs(tensors(2, 1)), path, { maxShardBytes: 4 });
    const [first, second, index] = namesIn(folder) as [string, string, string];
    await Deno.chmod(`${folder}/${first}`, 0o640);
    await Deno.chmod(`${folder}/${second}`, 0o604);
    await Deno.chmod(`${folder}/${index}`, 0o660);
    const options = { maxShardBytes: 4, overwrite: true };
    await saveFile(pairs(tensors(2, 5)), path, options); // the same names
    assertEquals(modes([first, second, index]), ["640", "604", "660"]);
    await saveFile(pairs(tensors(3, 5)), path, options); // shards of other names
    assertEquals(modes(namesIn(folder)), ["600", "600", "600", "660"]);
    await saveFile(pairs(tensors(3, 5)), path, { overwrite: true }); // one file
    assertEquals([modes(namesIn(folder)), namesIn(folder)], [["600"], ["x.safetensors"]]);
    await Deno.chmod(path, 0o640);
    await saveFile(pairs(tensors(2, 5)), path, options); // and a set again
    assertEquals(modes(namesIn(folder)), ["640", "640", "640"]);
  });

  test("a new file has mode 0666 without the umask's bits", async (folder) => {
    for (const umask of [0o022, 0o077, 0o002]) {
      const before = Deno.umask(umask);
      try {
        await Deno.mkdir(`${folder}/${umask}`);
        const path = `${folder}/${umask}/x.safetensors`;
        for (const maxShardBytes of [100, 4]) {
          await saveFile(pairs(tensors(2, 1)), path, { maxShardBytes });
          for (const name of namesIn(`${folder}/${umask}`)) {
            assertEquals(accessOf(`${folder}/${umask}/${name}`), `${(0o666 & ~umask).toString(8)} ${own}`);
          }
          await Deno.remove(path).catch(() => {});
        }
      } finally {
        Deno.umask(before);
      }
    }
  });
}

function poorFileSystemTests(test: DefineTest): void {
  test("saves work without hard links, and then do not replace files by accident", async (folder) => {
    const { link } = Deno;
    try {
      for (const code of ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EMLINK"]) {
        Deno.link = () => Promise.reject(Object.assign(new Error(`refused (${code})`), { code }));
        const path = `${folder}/${code}.safetensors`;
        for (const [count, overwrite] of [[1, false], [1, true], [3, true], [2, true], [1, true]] as const) {
          for (const sync of [true, false]) {
            const data = tensors(count, count);
            if (!overwrite) await Deno.remove(path).catch(() => {});
            const { paths } = await saveFile(pairs(data), path, { maxShardBytes: 4, overwrite, sync });
            await assertModel(paths.at(-1)!, data);
          }
        }
        for (const maxShardBytes of [100, 4]) {
          const stream = async function* () {
            await Deno.writeTextFile(`${folder}/new-00001-of-00002.safetensors`, "theirs");
            await Deno.writeTextFile(`${folder}/new.safetensors`, "theirs");
            yield* pairs(tensors(2, 1));
          };
          const save = () =>
            saveFile(stream(), `${folder}/new.safetensors`, { shapes: tensors(2, 1), maxShardBytes });
          assertEquals((await assertRejects(save, SafeTensorsError)).code, "FileExists");
          for (const name of ["new.safetensors", "new-00001-of-00002.safetensors"]) {
            assertEquals(await Deno.readTextFile(`${folder}/${name}`), "theirs");
            await Deno.remove(`${folder}/${name}`);
          }
        }
      }
    } finally {
      Deno.link = link;
    }
  });

  test("saves work without locks, and then do not treat temporary files as abandoned", async (folder) => {
    const { tryLock } = Deno.FsFile.prototype;
    try {
      Deno.FsFile.prototype.tryLock = () =>
        Promise.reject(Object.assign(new Error("no locks"), { code: "ENOLCK" }));
      await Deno.writeTextFile(`${folder}/${TEMPORARY("a")}`, "half");
      for (const count of [1, 3, 2, 1]) {
        const data = tensors(count, count);
        const { paths } = await saveFile(pairs(data), `${folder}/x.safetensors`, {
          maxShardBytes: 4,
          overwrite: true,
        });
        await assertModel(paths.at(-1)!, data);
      }
      assertEquals(namesIn(folder), [TEMPORARY("a"), "x.safetensors"]);
    } finally {
      Deno.FsFile.prototype.tryLock = tryLock;
    }
  });
}

function linkTests(test: DefineTest): void {
  test("a save replaces the target of a chain of links, and keeps the links", async (folder) => {
    await Deno.mkdir(`${folder}/disk/deep`, { recursive: true });
    await Deno.mkdir(`${folder}/here`);
    const real = `${folder}/disk/deep/real.bin`, path = `${folder}/here/current.safetensors`;
    await Deno.writeTextFile(real, "old");
    await Deno.symlink("../disk/deep", `${folder}/here/way`);
    await Deno.symlink("way/../second", path);
    await Deno.symlink("deep/real.bin", `${folder}/disk/second`);
    for (const sync of [true, false]) {
      const data = tensors(2, sync ? 1 : 7);
      const error = await assertRejects(() => saveFile(pairs(data), path), SafeTensorsError);
      assertEquals([error.code, error.path], ["FileExists", path]);
      const { paths } = await saveFile(pairs(data), path, { overwrite: true, sync });
      assertEquals(paths, [path]);
      await assertFile(real, referenceFile(data));
      await assertModel(path, data);
      assertEquals(await Deno.readLink(path), "way/../second");
      assertEquals([namesIn(`${folder}/disk/deep`), namesIn(`${folder}/here`)], [["real.bin"], [
        "current.safetensors",
        "way",
      ]]);
    }
  });

  test("a save creates the missing target of a link", async (folder) => {
    await Deno.mkdir(`${folder}/disk`);
    await Deno.symlink("disk/new.safetensors", `${folder}/link.safetensors`);
    await saveFile(pairs(tensors(1, 1)), `${folder}/link.safetensors`);
    assertEquals((await Deno.lstat(`${folder}/link.safetensors`)).isSymlink, true);
    await assertFile(`${folder}/disk/new.safetensors`, referenceFile(tensors(1, 1)));
    assertEquals([namesIn(folder), namesIn(`${folder}/disk`)], [["disk", "link.safetensors"], [
      "new.safetensors",
    ]]);
    await Deno.symlink("gone/x.safetensors", `${folder}/lost.safetensors`);
    const error = await assertRejects(() => saveFile({}, `${folder}/lost.safetensors`), WriteError, "gone");
    assertEquals([error.errno, namesIn(folder)], [2, ["disk", "link.safetensors", "lost.safetensors"]]);
  });

  test("a save follows only links that the system follows", async (folder) => {
    const path = `${folder}/x.safetensors`;
    await Deno.writeTextFile(`${folder}/mine`, "mine");
    await Deno.symlink("mine", path);
    const { stat } = Deno;
    try {
      // The error of Linux (fs.protected_symlinks) for another user's link in a folder such as /tmp.
      const refusal = Object.assign(new Deno.errors.PermissionDenied("Permission denied"), {
        code: "EACCES",
      });
      Deno.stat = (at) => at === path ? Promise.reject(refusal) : stat(at);
      const error = await assertRejects(() => saveFile({}, path, { overwrite: true }), WriteError);
      assertEquals([error.errno, error.path], [13, path]);
    } finally {
      Deno.stat = stat;
    }
    assertEquals([namesIn(folder), await Deno.readTextFile(`${folder}/mine`)], [
      ["mine", "x.safetensors"],
      "mine",
    ]);
  });

  test("a save rejects circular links", async (folder) => {
    await Deno.symlink("b.safetensors", `${folder}/a.safetensors`);
    await Deno.symlink("a.safetensors", `${folder}/b.safetensors`);
    for (const overwrite of [false, true]) {
      const error = await assertRejects(
        () => saveFile({}, `${folder}/a.safetensors`, { overwrite }),
        WriteError,
        `Cannot save "${folder}/a.safetensors": it is a link that leads to itself`,
      );
      assertEquals([error.errno, namesIn(folder)], [40, ["a.safetensors", "b.safetensors"]]);
    }
  });

  test("a save of a set replaces the targets of its links for shards and index", async (folder) => {
    await Deno.mkdir(`${folder}/blobs`);
    await Deno.mkdir(`${folder}/snapshot`);
    const path = `${folder}/snapshot/model.safetensors`;
    const { paths } = await saveFile(pairs(tensors(2, 1)), `${folder}/blobs/model.safetensors`, {
      maxShardBytes: 4,
    });
    const names = paths.map((path) => path.slice(`${folder}/blobs/`.length)).sort();
    for (const [n, name] of names.entries()) {
      await Deno.rename(`${folder}/blobs/${name}`, `${folder}/blobs/${n}`);
      await Deno.symlink(`../blobs/${n}`, `${folder}/snapshot/${name}`);
    }
    const data = tensors(2, 50);
    await saveFile(pairs(data), path, { maxShardBytes: 4, overwrite: true });
    assertEquals([namesIn(`${folder}/blobs`), namesIn(`${folder}/snapshot`)], [["0", "1", "2"], names]);
    for (const name of names) assertEquals((await Deno.lstat(`${folder}/snapshot/${name}`)).isSymlink, true);
    await assertModel(`${folder}/snapshot`, data);
    await assertFile(`${folder}/blobs/0`, referenceFile([data[0]!]));
    // One file replaces the set: the links are removed, and their targets stay.
    await saveFile(pairs(data), path, { overwrite: true });
    assertEquals([namesIn(`${folder}/blobs`), namesIn(`${folder}/snapshot`)], [["0", "1", "2"], [
      "model.safetensors",
    ]]);
    await assertModel(`${folder}/snapshot`, data);
  });
}

function incompleteTests(test: DefineTest): void {
  test("a set that is replaced between the reads of its index and its shards is rejected", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await saveFile(pairs(tensors(2, 1)), path, { maxShardBytes: 4 });
    const { source } = await selectEngine();
    for (const input of [folder, `${path}.index.json`]) {
      const inputs = await resolveInputs(new LocalNames(), input, { size: 1 });
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

  test("a folder with missing shards and without an index is rejected", async (folder) => {
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
        `Cannot open "${folder}": 2 of 3 shards exist, ${
          missing === 2 ? `"${folder}/model-00000-of-00003.safetensors" or ` : ""
        }"${paths[missing]}" is not, and there is no index: was a download interrupted?`,
      );
      await Deno.writeFile(paths[missing]!, bytes);
    }
    await assertFiles(paths.slice(0, 3), data);
  });

  test("a folder of shards is complete for every style of numbering", async (folder) => {
    const sets = [
      ["m-1-of-2", "m-2-of-2"],
      ["n-00001-of-000002", "n-00002-of-000002"],
      ["x"],
      ["a-of-b"],
      ["k-0-of-2", "k-1-of-2"],
    ];
    for (const [set, names] of sets.entries()) {
      await Deno.mkdir(`${folder}/${set}`);
      for (const name of names) {
        const { bytes } = fileOf([{ name, dtype: "U8", shape: [1] }]);
        await Deno.writeFile(`${folder}/${set}/${name}.safetensors`, bytes);
      }
      await using model = await fastsafeOpen(`${folder}/${set}`);
      assertEquals(model.keys(), names);
    }
  });

  test("a folder with a huge number of shards in its names is rejected at once", async (folder) => {
    await Deno.writeFile(`${folder}/m-00001-of-999999999999.safetensors`, fileOf([]).bytes);
    const error = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError);
    assertEquals(error.path, `${folder}/m-00002-of-999999999999.safetensors`);
    await Deno.writeFile(`${folder}/m-999999999998-of-999999999999.safetensors`, fileOf([]).bytes);
    const other = await assertRejects(() => fastsafeOpen(folder), SafeTensorsError);
    assertEquals(other.path, `${folder}/m-00002-of-999999999999.safetensors`);
  });
}
