/**
 * Loads, moves, casts and copies that are disposed, closed and aborted at random moments: each returns the right bytes
 * or an expected error; the stand-in records no use of freed memory and no leak.
 */
import { assert, assertEquals } from "@std/assert";
import {
  type CudaTensor,
  fastsafeOpen,
  type HostTensor,
  type OpenOptions,
  PinnedPool,
  UseAfterCloseError,
} from "../../mod.ts";
import { assertTensor, tempFolder, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { assertNothingLeft, type CudaMachine, settled, standInSuite } from "./support.ts";

const SPECS: TensorSpec[] = [
  { name: "a", dtype: "F32", shape: [200, 300] },
  { name: "b", dtype: "BF16", shape: [77_777] },
  { name: "c", dtype: "U8", shape: [3] },
  { name: "d", dtype: "F16", shape: [10, 10, 100] },
  { name: "e", dtype: "I64", shape: [5000] },
  { name: "f", dtype: "F8_E4M3", shape: [123_457] },
];

type GdsMode = NonNullable<OpenOptions<"cuda">["gds"]>;

class Enough extends Error {}

/** Numbers from 0 to below 1 that are the same for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed * 0x9E37_79B9 >>> 0;
  return () => {
    state = state + 0x6D2B_79F5 >>> 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32;
  };
}

/** One round, chosen by its seed. */
class Round {
  readonly #random: () => number;
  readonly #written: readonly Written[];
  readonly #devices: readonly `cuda:${number}`[];
  readonly #ways: readonly GdsMode[];
  /** Completed copies. */
  verified = 0;

  constructor(seed: number, written: readonly Written[], devices: number, ways: readonly GdsMode[]) {
    this.#random = randomOf(seed);
    this.#written = written;
    this.#devices = devices > 1 ? ["cuda:0", "cuda:1"] : ["cuda:0"];
    this.#ways = ways;
  }

  async run(path: string, pool: PinnedPool): Promise<void> {
    const controller = new AbortController();
    const options: OpenOptions<"cuda" | `cuda:${number}`> = {
      device: this.#pick(this.#devices),
      lazy: this.#chance(0.4),
      gds: this.#pick(this.#ways),
      blockBytes: this.#pick([4096, 16_384, 65_536]),
      maxThreads: this.#pick([1, 2, 4]),
      signal: controller.signal,
      ...this.#chance(0.5) && { pool },
    };
    let model;
    try {
      const opening = fastsafeOpen(path, options);
      if (this.#chance(0.05)) controller.abort(new Enough());
      model = await opening;
    } catch (error) {
      return assert(error instanceof Enough, String(error));
    }
    const users = Array.from({ length: 2 + this.#below(10) }, () => this.#use(model));
    if (this.#chance(0.1)) controller.abort(new Enough());
    for (let pauses = this.#below(6); pauses > 0; pauses--) await this.#pause();
    const closing = this.#chance(0.6) ? model.close() : Promise.all(users).then(() => model.close());
    if (this.#chance(0.1)) controller.abort(new Enough());
    await Promise.all([...users, closing]);
  }

  /** Requests a tensor and uses it; errors are allowed. */
  async #use(model: { getTensor(name: string): Promise<CudaTensor> }): Promise<void> {
    const written = this.#written[this.#below(this.#written.length)]!;
    try {
      await this.#pause();
      using tensor = await model.getTensor(written.name);
      const act = this.#below(5);
      const done = act === 0
        ? this.#verify(tensor.copyToHost(), written)
        : act === 1
        ? this.#move(tensor, written)
        : act === 2 && /^(F|BF)/.test(written.dtype)
        ? this.#given(tensor.to({ dtype: this.#pick(["F32", "F16", "F64"]) }))
        : act === 3
        ? this.#export(tensor)
        : this.#share(tensor, written);
      if (this.#chance(0.5)) tensor[Symbol.dispose](); // during the operation
      await done;
    } catch (error) {
      assert(error instanceof Enough || error instanceof UseAfterCloseError, `${written.name}: ${error}`);
    }
  }

  async #verify(copy: Promise<HostTensor>, written: Written): Promise<void> {
    const actual = await copy;
    assertTensor(actual.named(written.name), written);
    this.verified++;
  }

  async #move(tensor: CudaTensor, written: Written): Promise<void> {
    using there = await tensor.to({ device: this.#pick(this.#devices) });
    const copy = there.copyToHost();
    if (this.#chance(0.5)) there[Symbol.dispose]();
    await this.#verify(copy, written);
  }

  async #share(tensor: CudaTensor, written: Written): Promise<void> {
    using other = tensor.named("other");
    await this.#pause();
    await this.#verify(other.copyToHost(), written);
  }

  async #given(made: Promise<CudaTensor>): Promise<void> {
    (await made)[Symbol.dispose]();
  }

  /** Like a consumer that calls the deleter later. */
  async #export(tensor: CudaTensor): Promise<void> {
    const address = await tensor.toDLPack();
    await this.#pause();
    const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!);
    const type = { parameters: ["u64"], result: "void" } as const;
    const deleter = view.getPointer(56) as Deno.PointerObject<typeof type>;
    new Deno.UnsafeFnPointer(deleter, type).call(address);
  }

  async #pause(): Promise<void> {
    const turns = this.#below(4);
    for (let turn = 0; turn < turns; turn++) {
      await new Promise((resolve) => setTimeout(resolve, this.#below(4)));
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #chance(probability: number): boolean {
    return this.#random() < probability;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)]!;
  }
}

/** Rounds on this machine's GPUs until the time is over; returns the numbers of rounds and of compared copies. */
export async function stressFor(
  seconds: number,
  devices: number,
): Promise<{ rounds: number; verified: number }> {
  await using folder = await tempFolder();
  const path = `${folder.path}/model.safetensors`;
  const written = await writeFile(path, SPECS, { misalignment: 3 });
  await using pool = new PinnedPool();
  const end = performance.now() + 1000 * seconds;
  let rounds = 0, verified = 0;
  while (performance.now() < end) {
    const round = new Round(++rounds, written, devices, ["auto", "off"]); // not every machine has GDS
    await round.run(path, pool);
    verified += round.verified;
  }
  return { rounds, verified };
}

/** Defines a test of `rounds` rounds. */
export function stressTest(machine: CudaMachine, rounds: number): void {
  standInSuite("CUDA under stress", machine, (test, standIns) => {
    test(`disposing, closing and aborting at random moments, ${rounds} rounds`, async (folder) => {
      const path = `${folder}/model.safetensors`;
      const written = await writeFile(path, SPECS, { misalignment: 3 });
      const pool = new PinnedPool();
      let verified = 0;
      using _uncached = machine.setFileFaults("cachestat:*:uncached"); // so that cuFile is used
      for (let seed = 1; seed <= rounds; seed++) {
        using _sim = standIns.set({
          FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat",
          FST_SIM_SEED: String(seed),
          FST_SIM_DELAY_US: String([0, 50, 500, 3000][seed % 4]),
        });
        const round = new Round(seed, written, 2, ["auto", "require", "off"]);
        await round.run(path, pool);
        verified += round.verified;
        if (seed % 5 !== 0) continue; // otherwise memory released in one round is freed in the next one
        await settled(machine);
        const { live, violations } = standIns.report();
        assertEquals([live.allocations, violations], [0, { total: 0, kinds: {} }], `seed ${seed}`);
      }
      await pool.close();
      assert(verified > rounds / 2, `only ${verified} copies came to their end`);
      assertNothingLeft(machine);
    });
  });
}
