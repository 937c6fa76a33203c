/**
 * The contenders in the benchmarks of ranks, with each family of MPI on the machine.
 */
import { readHeader } from "../../mod.ts";
import { output } from "../side_by_side/tools.ts";
import type { RankSample } from "./sample.ts";

/** A program on its ranks. */
export interface Contender {
  readonly name: string;
  /** The name of the contender that it is compared with. */
  readonly against?: string;
  /** The compared rate: bytes of the model per second, or the sum of the bytes of all ranks' shares. */
  readonly rate: (sample: RankSample) => number;
  /** Runs it in separate processes. */
  run(): Promise<RankSample>;
}

/** A family of MPI. */
interface Family {
  readonly name: string;
  readonly compiler: string;
  readonly launcher: readonly string[];
}

const FAMILIES: readonly Family[] = [
  {
    name: "Open MPI",
    compiler: "mpicc.openmpi",
    launcher: ["mpirun.openmpi", "--allow-run-as-root", "--oversubscribe"],
  },
  { name: "MPICH", compiler: "mpicc.mpich", launcher: ["mpirun.mpich"] },
];

/**
 * The division of the model's matrices. Rows are contiguous in a file; columns have a few kilobytes in each row, and
 * the kernel needs twice the time per byte for them.
 */
const PLANS = Object.entries({ rows: { "*.mlp.*.weight": 0 }, columns: { "*.mlp.*.weight": 1 } })
  .map(([parts, plan]) => ({ parts, plan: JSON.stringify(plan) }));

/**
 * All contenders that can run on this machine.
 *
 * @param work a folder for the C programs
 * @param files the model
 * @param sizes the numbers of ranks to run
 */
export async function findContenders(
  work: string,
  files: readonly string[],
  sizes: readonly number[],
): Promise<Contender[]> {
  const lengths = await Promise.all(files.map(async (file) => {
    return [...(await readHeader(file)).tensors.values()].map(({ begin, end }) => end - begin);
  }));
  const one: Contender = {
    name: "one process reads all",
    rate: ofShares,
    run: () => sample(denoRun("this_sharded.ts", "one", PLANS[0]!.plan, ...files)),
  };
  const all = [one];
  for (const family of FAMILIES) {
    const program = await compile(family, work);
    if (program === null) continue;
    for (const size of sizes) all.push(...onRanks(family, program, size, files, lengths, one.name));
  }
  return all;
}

/** The contenders on so many ranks. */
function onRanks(
  { name, launcher }: Family,
  program: string,
  size: number,
  files: readonly string[],
  lengths: readonly (readonly number[])[],
  one: string,
): Contender[] {
  const total = lengths.flat().reduce((sum, length) => sum + length, 0);
  const ofModel = ({ seconds }: RankSample) => total / seconds;
  const start = [...launcher, "-n", `${size}`];
  const blocks = lengths.flatMap((list, file) => list.flatMap((length) => [`${file % size}`, `${length}`]));
  const limit = `${name}, ${size} ranks: MPI_Bcast in C`;
  return [
    {
      name: limit,
      rate: ofModel,
      run: async () => ({ seconds: Number(await print([...start, program, ...blocks])) }),
    },
    {
      name: `${name}, ${size} ranks: broadcast the model`,
      against: limit,
      rate: ofModel,
      run: () => sample([...start, ...denoRun("this_broadcast.ts", ...files)]),
    },
    ...PLANS.map(({ parts, plan }) => ({
      name: `${name}, ${size} ranks: each reads its ${parts}`,
      against: one,
      rate: ofShares,
      run: () => sample([...start, ...denoRun("this_sharded.ts", "ranks", plan, ...files)]),
    })),
  ];
}

/** The C program, built for a family; null if the machine does not have the family. */
async function compile({ name, compiler }: Family, work: string): Promise<string | null> {
  const program = `${work}/broadcast_${compiler}`;
  try {
    await output(compiler, ["-O2", "-Wall", "-Wextra", "-Werror", "-o", program, pathOf("broadcast.c")]);
    return program;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.error(`${name} does not take part: ${error.message}`);
    return null;
  }
}

function ofShares({ bytesPerSecond }: RankSample): number {
  return bytesPerSecond!;
}

function denoRun(program: string, ...words: string[]): string[] {
  return [Deno.execPath(), "run", "-A", pathOf(program), ...words];
}

async function sample(line: readonly string[]): Promise<RankSample> {
  return JSON.parse(await print(line));
}

function print([command, ...args]: readonly string[]): Promise<string> {
  return output(command!, args);
}

function pathOf(file: string): string {
  return new URL(file, import.meta.url).pathname;
}
