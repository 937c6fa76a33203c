/**
 * Storage that answers late: many reads in flight, and what happens if the system refuses io_uring.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { BYTES_UNIT, LatencyFileSystem } from "../../bench/latency/file_system.ts";
import { tempFolder as unloadedFolder } from "../../bench/temp_folder.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { BLOCK, failWith, faults, loadWith, test } from "./support.ts";

/** The read of the header takes so long that the lanes know the latency; no page is cached. */
const LATE = "pread:1:delay=50000,cachestat:*:uncached";

const tensorsOf = (path: string) =>
  writeFile(path, [{ name: "a", dtype: "BF16", shape: [9, 100_000] }, {
    name: "b",
    dtype: "U8",
    shape: [10 * BLOCK],
  }]);

/** Whether the kernel allows io_uring: containers often forbid it. */
async function missingRing(): Promise<string | null> {
  if (faults.missing !== null) return faults.missing;
  await using folder = await tempFolder();
  const path = `${folder.path}/model.safetensors`;
  const { notes } = await loadWith(LATE, path, await tensorsOf(path));
  return notes.find((note) => note.includes("io_uring")) ?? null;
}

suite("Storage that answers late, without io_uring", "native", faults.missing, () => {
  test("a note says that the system refuses io_uring, and nothing else changes", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await tensorsOf(path);
    for (const [errno, name] of [[1, "EPERM"], [38, "ENOSYS"]] as const) {
      const options = { maxThreads: 3 };
      const { notes, path: way } = await loadWith(`${LATE},uringsetup:*:${errno}`, path, tensors, options);
      assertEquals(way, "direct");
      const note = notes.find((note) => note.includes("io_uring"));
      assertStringIncludes(note ?? "", name);
      assertStringIncludes(note ?? "", "at most 3 reads were in flight");
    }
  });
});

const noRing = await missingRing();

suite("Storage that answers late", "native", noRing, () => {
  test("reads in flight fail with the file, the offset and the system's error", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await tensorsOf(path);
    const error = await failWith(`${LATE},uringread:3:5`, path, tensors);
    assertEquals(error.errno, 5);
    const truncated = await failWith(`${LATE},uringread:5:eof`, path, tensors);
    assertStringIncludes(truncated.message, "truncated");
    const changed = await failWith(`${LATE},fstat:2:changed`, path, tensors);
    assertStringIncludes(changed.message, "changed after its header was read");
  });

  test("every kind of read in flight gives the same bytes", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await tensorsOf(path);
    for (
      const spec of [
        "uringread:*:short=4096",
        "uringread:*:short=5000",
        "uringread:2:4,uringread:4:11",
        "uringread:*:22",
      ]
    ) {
      for (const options of [{}, { maxThreads: 1 }, { blockBytes: 4096, stagingBytes: 65_536 }]) {
        const { notes } = await loadWith(`${LATE},${spec}`, path, tensors, options);
        assertEquals(notes.some((note) => note.includes("refused direct reads")), spec.endsWith(":22"));
      }
    }
  });
});

async function missingMount(folder: string): Promise<string | null> {
  const { missing } = await compiler();
  if (missing !== null || noRing !== null) return missing ?? noRing;
  const fs = await LatencyFileSystem.build(folder, BYTES_UNIT);
  return await fs.run(0, "true", []).then(() => null, (error) => error.message);
}

const LOADER = new URL("../children/late_storage.ts", import.meta.url).pathname;

const folder = unloadedFolder();
const missing = await missingMount(folder);

suite("A file system that answers late", "mounts", missing, () => {
  const load = async (options: object, more: readonly string[]) => {
    const out = await Deno.makeTempDir({ dir: folder });
    const fs = await LatencyFileSystem.build(out, 4 * BYTES_UNIT);
    const printed = await fs.run(50, Deno.execPath(), [
      ...["run", "-A", LOADER, JSON.stringify(options)],
      ...fs.files,
    ], more);
    return { fs, result: JSON.parse(printed) };
  };

  Deno.test("160 reads of 1 MiB are in flight, where one read of each lane would be at most 64", async () => {
    // The file system answers none of them before as many wait.
    const { result } = await load({}, ["-w", "160"]);
    assertEquals(result, { path: "direct", threads: result.threads, notes: [], wrong: 0 });
    assert(result.threads <= 16);
  });

  Deno.test("a read that the file system cannot answer fails the load", async () => {
    const { fs, result } = await load({}, ["-e", "100"]);
    assertEquals(result.errno, 5);
    assert(fs.files.includes(result.path), result.path);
  });
});
