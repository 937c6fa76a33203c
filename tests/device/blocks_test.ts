/**
 * The memory of a load is allocated while its first bytes are read.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { OutOfMemoryError } from "../../src/base/errors.ts";
import { finishNow } from "../../src/base/steps.ts";
import { CpuDevice } from "../../src/device/cpu/device.ts";
import type { SourceFile } from "../../src/files/source.ts";
import { Blocks, type HostBlock, type Job, type RunReport } from "../../src/load/engine.ts";
import { PortableEngine } from "../../src/load/portable_engine.ts";
import { RequestTable } from "../../src/load/request.ts";
import { request } from "../load/plan/random_requests.ts";

const MIB = 2 ** 20;

/** An engine that reports in which order it allocates memory and runs, and can fail to allocate. */
class ReportingEngine extends PortableEngine {
  readonly events: string[] = [];
  /** Allocations after which the next one fails. */
  most = Infinity;
  /** Called at the start of a run. */
  onRun = () => {};
  #allocated = 0;

  constructor() {
    const open = () => Promise.reject(new Error("no file is opened"));
    super({ source: { name: "none", open }, availableMemory: () => -1, reason: "a test" });
  }

  override allocate(byteLength: number): HostBlock {
    if (this.#allocated++ >= this.most) throw new RangeError("Array buffer allocation failed");
    this.events.push(`allocate ${Math.round(byteLength / MIB)}`);
    return { buffer: new ArrayBuffer(0), base: 0 }; // no byte is written
  }

  override async run(job: Job): Promise<RunReport> {
    this.events.push("run");
    this.onRun();
    const { length } = job.plan.allocations;
    for (let allocation = 0; allocation < length; allocation++) await job.blocks.until(allocation);
    this.events.push("end");
    return { path: "portable", threads: 1, notes: [] };
  }
}

/** Starts a load of tensors of so many MiB, each of another file. */
function start(engine: ReportingEngine, sizes: readonly number[], signal = new AbortController().signal) {
  const requests = sizes.map((size, file) => request({ name: `${file}`, file, run: size * MIB }));
  const settings = { blockBytes: 4 * MIB, stagingBytes: MIB, signal };
  const files: SourceFile[] = [];
  return new CpuDevice(engine).start(finishNow(RequestTable.of(requests)), files, settings);
}

Deno.test("a load runs after its first block is allocated, before the others are", async () => {
  const engine = new ReportingEngine();
  const load = await start(engine, [1000, 900, 800]);
  await load.finished;
  assertEquals(engine.events, ["allocate 1000", "run", "allocate 900", "allocate 800", "end"]);
});

Deno.test("a load that has no memory for a later block ends and names all bytes that it needs", async () => {
  const engine = new ReportingEngine();
  engine.most = 2;
  const error = await assertRejects(() => start(engine, [100, 200, 300]), OutOfMemoryError);
  assertEquals(error.requested, 600 * MIB);
  assertEquals(engine.events, ["allocate 100", "run", "allocate 200"]);
});

Deno.test("a load that has no memory for its first block does not run", async () => {
  const engine = new ReportingEngine();
  engine.most = 0;
  await assertRejects(() => start(engine, [100]), OutOfMemoryError);
  assertEquals(engine.events, []);
});

Deno.test("a load that is aborted while its memory is allocated allocates no more, and its run ends", async () => {
  const engine = new ReportingEngine();
  const stop = new AbortController();
  const reason = new Error("enough");
  engine.onRun = () => stop.abort(reason);
  const load = await start(engine, [100, 200, 300], stop.signal);
  assertEquals(await assertRejects(() => load.finished), reason);
  assertEquals(engine.events, ["allocate 100", "run"]);
});

Deno.test("Blocks gives each block after it is added, and the error if none follows", async () => {
  const [one, two] = [1, 2].map((byteLength) => ({ buffer: new ArrayBuffer(byteLength), base: 0 }));
  const blocks = new Blocks();
  const waiting = [1, 0].map((allocation) => blocks.until(allocation));
  const third = blocks.until(2);
  blocks.add(one!);
  blocks.add(two!);
  assert((await Promise.all(waiting)).every((block, index) => block === [two, one][index]));
  blocks.fail(new RangeError("no more"));
  await assertRejects(() => third, RangeError, "no more");
  assertEquals([blocks.at(1), blocks.at(2), await blocks.until(0)], [two, undefined, one]);
});
