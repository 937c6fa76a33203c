/**
 * An error of opening together leaves no file open: the files are closed before the promise rejects, however long that
 * takes.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, GroupError, ReadError, serialize, type Source, type SourceFile } from "../../mod.ts";
import { SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { type FakeGroup, runRanks } from "../support/fake_group.ts";

/** Files in memory; each has one tensor, of its path's name, and is closed a few turns of the event loop after the call. */
class SlowlyClosed implements Source {
  readonly name = "slowly closed";
  /** Files that were opened. */
  opened = 0;
  /** Files that are open now. */
  left = 0;
  /** The path of a file whose close fails. */
  failing = "";

  open(path: string): Promise<SourceFile> {
    if (path === "none") return Promise.reject(new ReadError('Cannot open "none"', { path, errno: 2 }));
    this.opened++;
    this.left++;
    const bytes = serialize({ [path]: { dtype: "U8", shape: [2], data: new Uint8Array([1, 2]) } });
    let closing: Promise<void> | undefined;
    const close = async () => {
      if (path !== this.failing) { for (let turn = 0; turn < 3; turn++) await nextTurn(); }
      this.left--;
      if (path === this.failing) throw new Error(`close of ${path}`);
    };
    return Promise.resolve({
      path,
      size: bytes.byteLength,
      head: bytes,
      releaseHead() {},
      read(offset, target) {
        target.set(bytes.subarray(offset, offset + target.byteLength));
        return Promise.resolve();
      },
      close: () => closing ??= close(),
    });
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

/** Opens on two ranks what must fail on both; returns the number of files that were opened, and of those left open. */
async function failTogether(
  open: (group: FakeGroup, source: SlowlyClosed) => Promise<unknown>,
): Promise<[opened: number, left: number[]]> {
  let opened = 0;
  const left: number[] = [];
  const { results } = await runRanks(2, async (group) => {
    const source = new SlowlyClosed();
    await assertRejects(async () => await open(group, source), Error);
    left[group.rank] = source.left;
    opened += source.opened;
  });
  for (const result of results) if (result.status === "rejected") throw result.reason;
  return [opened, left];
}

Deno.test("fastsafeOpen() closes the files of all ranks before it rejects: one rank cannot open its file", async () => {
  const left = await failTogether((group, source) => fastsafeOpen(["a", "none"], { group, source }));
  assertEquals(left, [1, [0, 0]]);
});

Deno.test("fastsafeOpen() closes the files of all ranks before it rejects: one rank has aborted", async () => {
  const left = await failTogether((group, source) => {
    return fastsafeOpen(["a", "b"], {
      group,
      source,
      ...group.rank === 1 && { signal: AbortSignal.abort() },
    });
  });
  assertEquals(left, [1, [0, 0]]);
});

Deno.test("fastsafeOpen() closes the files of all ranks before it rejects: the ranks name different files", async () => {
  const left = await failTogether((group, source) => {
    return fastsafeOpen(group.rank === 0 ? ["a", "b"] : ["b", "a"], { group, source });
  });
  assertEquals(left, [2, [0, 0]]);
});

Deno.test("fastsafeOpen() closes the files of all ranks before it rejects: the connection fails after they are open", async () => {
  const left = await failTogether((group, source) => {
    group.allGather = async (_value, label) => {
      await group.abort(`no connection for ${label}`);
      throw new GroupError("Rank 1 is gone", 1, "no connection");
    };
    return fastsafeOpen(["a", "b"], { group, source });
  });
  assertEquals(left, [2, [0, 0]]);
});

Deno.test("fastsafeOpen() closes the files of all ranks before it rejects: a callback of one rank throws", async () => {
  const left = await failTogether((group, source) => {
    const names = () => {
      if (group.rank === 1) throw new Error("of the user");
      return true;
    };
    return fastsafeOpen(["a", "b"], { group, source, names });
  });
  assertEquals(left, [2, [0, 0]]);
});

Deno.test("addFilenames() closes the files of all ranks before it rejects", async () => {
  const left = await failTogether(async (group, source) => {
    await using loader = new SafeTensorsFileLoader(group, { source });
    await assertRejects(() => loader.addFilenames({ 0: "a", 1: "none" }), GroupError);
    assertEquals(source.left, 0);
    throw new Error("checked");
  });
  assertEquals(left, [1, [0, 0]]);
});

Deno.test("SafeTensorsFileLoader.reset() closes all files before it rejects because one does not close", async () => {
  const source = new SlowlyClosed();
  const loader = new SafeTensorsFileLoader(undefined, { source });
  await loader.addFilenames({ 0: "bad" });
  await loader.addFilenames({ 0: ["a", "b"] });
  source.failing = "bad";
  await assertRejects(() => loader.reset(), Error, "close of bad");
  assertEquals([source.opened, source.left], [3, 0]);
});

Deno.test("a model closes all files before close() rejects because one does not close", async () => {
  const source = new SlowlyClosed();
  const model = await fastsafeOpen(["bad", "a"], { source, lazy: true });
  using _part = await model.getSharded("a", 0, { from: "file" }); // opens the file again
  source.failing = "bad";
  await assertRejects(() => model.close(), Error, "close of bad");
  assertEquals([source.opened, source.left], [3, 0]);
});
