/**
 * The contenders of the tasks that have limit probes of their own: the cast from BF16 to F32, and columns of matrices.
 */
import { readHeader } from "../../mod.ts";
import { type CacheKind, type Contender, thisLoader } from "./contenders.ts";
import type { Tools } from "./tools.ts";

/** The matrices that ranks divide: the shard plan, and the same as an expression. */
const PATTERN = "*.mlp.*.weight", MATRIX = /^.*\.mlp\..*\.weight$/;

/** The ways of the strided probe, and the flags of those for files that are not in the page cache. */
const WAYS = ["rows", "blocks", "gather"] as const;
const COLD_WAYS = [["rows"], ["blocks", "-d"], ["blocks", "-d", "-p"]] as const;

/** Bytes of one direct read. */
const DIRECT_BLOCK = ["-b", `${4 * 2 ** 20}`] as const;

/** What the flags of a probe mean. */
const FLAGS: Readonly<Record<string, string>> = {
  "-d": "O_DIRECT",
  "-p": "populate",
  "-s": "streaming stores",
};

/** The name of a probe with these flags. */
function probeName(what: string, first: string | null, flags: readonly string[], count: number): string {
  const words = flags.flatMap((flag) => FLAGS[flag] ?? []);
  return `limit of ${what}: ${[...first ? [first] : [], ...words].join(", ")}, ${count} thread${
    count === 1 ? "" : "s"
  }`;
}

/**
 * BF16 cast to F32: this loader, and the cast probe with so many threads.
 *
 * @returns no probe if other bytes than BF16 are more than a hundredth, since it casts all
 */
export async function castContenders(
  tools: Tools,
  files: readonly string[],
  threads: readonly number[],
): Promise<Contender[]> {
  const headers = await Promise.all(files.map((file) => readHeader(file)));
  const sizes = headers.flatMap(({ tensors }) =>
    tensors.values().map(({ dtype, begin, end }) => ({ dtype, bytes: end - begin })).toArray()
  );
  const sum = (those: typeof sizes) => those.reduce((total, { bytes }) => total + bytes, 0);
  const isBf16 = sum(sizes.filter(({ dtype }) => dtype === "BF16")) >= 0.99 * sum(sizes);
  const probe = (kind: CacheKind, flags: readonly string[], count: number): Contender => ({
    name: probeName("the cast", kind === "hot" ? "buffered" : null, flags, count),
    isLimit: true,
    task: "cast",
    kinds: [kind],
    files,
    run: async () => ({ seconds: await tools.time("cast", [...flags, "-t", `${count}`, ...files]) }),
  });
  const cold = ["-d", ...DIRECT_BLOCK];
  const probes = threads.flatMap((count) => [
    probe("hot", [], count),
    probe("hot", ["-s"], count),
    probe("hot", ["-p"], count),
    probe("cold", cold, count),
    probe("cold", [...cold, "-s"], count),
    probe("cold", [...cold, "-p"], count),
  ]);
  return [
    ...isBf16 ? probes : [],
    { ...thisLoader("this loader, BF16 cast to F32", files, { dtype: "F32" }), task: "cast" },
  ];
}

/**
 * Rank 0's columns of the matrices in files: this loader, and the strided probe in all its ways with so many threads.
 *
 * @param work a folder for the plan of the probe
 * @param size the number of ranks
 * @returns none if the files have no such matrices, or the ranks' columns would differ in number
 */
export async function columnContenders(
  tools: Tools,
  work: string,
  files: readonly string[],
  size: number,
  threads: readonly number[],
): Promise<Contender[]> {
  const lines: string[] = [];
  let bytes = 0;
  for (const [file, path] of files.entries()) {
    const { tensors, dataStart } = await readHeader(path);
    for (const { name, shape: [rows, columns, ...more], begin, end } of tensors.values()) {
      if (!MATRIX.test(name)) continue;
      if (!rows || !columns || more.length > 0 || columns % size !== 0) return [];
      const stride = (end - begin) / rows, length = stride / size;
      if (!Number.isInteger(length)) return []; // elements of 4 bits
      lines.push([file, dataStart + begin, rows, stride, 0, length].join(" "));
      bytes += rows * length;
    }
  }
  if (lines.length === 0) return [];
  const plan = await Deno.makeTempFile({ dir: work, prefix: "columns-" });
  await Deno.writeTextFile(plan, lines.join("\n") + "\n");
  const probe = (kind: CacheKind, [way, ...flags]: readonly string[], count: number): Contender => ({
    name: probeName("columns", way!, flags, count),
    isLimit: true,
    task: "columns",
    kinds: [kind],
    files,
    bytes,
    run: async () => {
      const block = flags.includes("-d") ? DIRECT_BLOCK : [];
      const args = ["-w", way!, ...flags, ...block, "-t", `${count}`, plan, ...files];
      return { seconds: await tools.time("columns", args) };
    },
  });
  const probes = threads.flatMap((count) => [
    ...WAYS.map((way) => probe("hot", [way], count)),
    ...COLD_WAYS.map((way) => probe("cold", way, count)),
  ]);
  const options = { names: PATTERN, shardPlan: { [PATTERN]: 1 }, group: { rank: 0, size } };
  return [
    ...probes,
    {
      ...thisLoader(`this loader, 1/${size} of the columns`, files, options),
      task: "columns",
      bytes,
    },
  ];
}
