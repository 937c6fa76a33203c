/** Opens files together: each file is opened by one rank, which sends its tensors' descriptions to the others. */
import { STEP } from "../base/steps.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import {
  type Catalog,
  type CatalogTensor,
  compareIndexes,
  type FileHome,
  type ListFile,
  MergedTensors,
  openPart,
  pathOf,
} from "../files/catalog.ts";
import { GroupError } from "../base/errors.ts";
import { type DType, DTYPES } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import type { Json, ProcessGroup } from "../base/process_group.ts";
import { type DealtInputs, noFiles } from "../files/inputs.ts";
import { closeAll, type Source, type SourceFile } from "../files/source.ts";
import { RankQueue } from "./queue.ts";

/**
 * The description of a tensor: name, number of the dtype, shape, offset in the file, bytes, and target of an
 * alias.
 */
type TensorDescription = [string, number, number[], number, number, string | null];

/** The description of a rank's files. */
interface RankFiles {
  /** Whether it was given files by rank. */
  byRank: boolean;
  /** The indexes that it read. */
  index: string | null;
  /** The paths of each rank, as far as this rank was given them. */
  lists: [rank: number, paths: string[]][];
  /** The contents of its own files. */
  files: { path: string; metadata: [string, string][]; tensors: TensorDescription[] }[];
}

/**
 * Opens this rank's files and receives the descriptions of all others. After an error, no file is open.
 *
 * @param prepare finds the files to open, and their source
 * @returns the catalog of all files, and the result of `prepare`
 * @throws {GroupError} on every rank if one cannot open its files, or the ranks were given different arguments
 * @throws {SafeTensorsError} on every rank if a name occurs twice, or files and index disagree
 * @throws {TypeError} on every rank if no rank has a file
 */
export async function openShared<F extends SourceFile, E extends { readonly source: Source<F> }>(
  group: ProcessGroup,
  prepare: () => Promise<{ selected: E; inputs: DealtInputs }>,
  signal?: AbortSignal,
  list?: ListFile<F>,
): Promise<{ catalog: Catalog<F>; selected: E }> {
  const opened: F[] = [];
  try {
    const { selected, own, inputs, ranks } = await RankQueue.of(group).run({
      label: "open files",
      signal,
      prepare: async () => {
        const { selected, inputs } = await prepare();
        const paths = inputs.lists.get(group.rank) ?? [];
        const own = await openPart(selected.source, { ...inputs, paths }, signal, list);
        opened.push(...own.files);
        return { selected, own, inputs };
      },
      move: async ({ selected, own, inputs }) => {
        const ranks = await group.allGather(
          describeOwn(group.rank, own, inputs) as unknown as Json,
          "headers",
        );
        return { selected, own, inputs, ranks: ranks as unknown as RankFiles[] };
      },
    });
    compareRanks(ranks);
    return { catalog: await mergeRanks(group, own, inputs, ranks), selected };
  } catch (error) {
    // Not by the operation's cleanup, which does not wait, and keeps everything if the ranks could not exchange it.
    await closeAll(opened);
    throw error;
  }
}

function describeOwn(rank: number, own: Catalog, { byRank, indexes, lists }: DealtInputs): RankFiles {
  const files = own.files.map(({ path }) => {
    return { path, metadata: [...own.metadata.get(path)!], tensors: [] as TensorDescription[] };
  });
  for (const { name, dtype, shape, file, fileOffset, byteLength, aliasOf } of own.tensors.values()) {
    const code = DTYPES.indexOf(dtype);
    files[file]!.tensors.push([name, code, [...shape], fileOffset, byteLength, aliasOf ?? null]);
  }
  const ranks = new Map([[rank, []], ...lists]); // a rank without files has an empty list
  const index = indexes.map(({ path }) => path).join('", "') || null;
  return { byRank, index, lists: [...ranks].map(([rank, paths]) => [rank, [...paths]]), files };
}

/** Two ranks must name the same files for a third; if they do not, the error names the later of the two. */
function compareRanks(ranks: readonly RankFiles[]): void {
  const lists = ranks.map(({ lists }) => new Map(lists));
  for (const [rank, { byRank, index }] of ranks.entries()) {
    if (byRank !== ranks[0]!.byRank) {
      throw disagreement(rank, `rank ${rank} and rank 0 were not both given files by rank`);
    }
    if (index !== ranks[0]!.index) {
      const [said, other] = [named(index), named(ranks[0]!.index)];
      throw disagreement(rank, `rank ${rank} has read the index ${said}, rank 0 ${other}`);
    }
    for (const [reader, paths] of lists[rank]!) {
      const other = lists.findIndex((list) => list.has(reader));
      const others = lists[other]!.get(reader)!;
      const length = Math.max(paths.length, others.length);
      const at = Array.from({ length }).findIndex((_, file) => paths[file] !== others[file]);
      if (at < 0) continue;
      const [said, is] = [named(paths[at]), named(others[at])];
      throw disagreement(
        rank,
        `file ${at + 1} of rank ${reader} is ${said} for rank ${rank}, and ${is} for rank ${other}`,
      );
    }
  }
}

function named(path: string | null | undefined): string {
  return path === null || path === undefined ? "none" : quote(path);
}

function disagreement(rank: number, reason: string): GroupError {
  return new GroupError(`The ranks do not open the same files: ${reason}`, rank, reason);
}

async function mergeRanks<F extends SourceFile>(
  group: ProcessGroup,
  own: Catalog<F>,
  inputs: DealtInputs,
  ranks: readonly RankFiles[],
): Promise<Catalog<F>> {
  const turn = new Turn();
  const merged = new MergedTensors<CatalogTensor>(inputs.indexes, (tensor) => pathOf(own, tensor));
  const metadata = new Map<string, ReadonlyMap<string, string>>();
  for (const home of inOrder(ranks)) {
    const { metadata: entries, tensors: list } = ranks[home.rank]!.files[home.round]!;
    metadata.set(home.path, new Map(entries));
    for (const one of list) {
      if (merged.tensors.size % STEP === 0) await turn.pause();
      const [name] = one;
      const tensor = home.rank === group.rank ? { ...own.tensors.get(name)!, home } : elsewhere(one, home);
      merged.add(tensor);
    }
  }
  if (ranks.every(({ files }) => files.length === 0)) throw noFiles();
  const { tensors } = merged;
  const known = { missing: new Map(own.missing), notes: [...own.notes, ...merged.notes()] };
  const pathOfName = (name: string) => pathOf(own, tensors.get(name)!);
  const compared = await finishInTurns(compareIndexes(known, tensors, pathOfName, inputs.indexes));
  return { ...own, tensors, metadata, group, ...compared };
}

/** The files of all ranks in the order of the arguments. */
function inOrder(ranks: readonly RankFiles[]): FileHome[] {
  const homes = ranks.flatMap(({ files }, rank) => files.map(({ path }, round) => ({ path, rank, round })));
  return ranks[0]!.byRank ? homes : homes.sort((a, b) => a.round - b.round || a.rank - b.rank);
}

function elsewhere(
  [name, dtype, shape, fileOffset, byteLength, aliasOf]: TensorDescription,
  home: FileHome,
): CatalogTensor {
  return {
    name,
    dtype: DTYPES[dtype] as DType,
    shape: Object.freeze(shape),
    file: -1,
    fileOffset,
    byteLength,
    home,
    ...aliasOf === null ? {} : { aliasOf },
  };
}
