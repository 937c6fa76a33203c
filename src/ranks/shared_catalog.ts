/**
 * Opening files together: each is opened by one rank, which tells the others what is in it.
 */
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

/** A tensor, as a rank tells of it: name, number of the dtype, shape, offset in the file, bytes, what it is an alias of. */
type ToldTensor = [string, number, number[], number, number, string | null];

/** What a rank tells of itself. */
interface Told {
  /** Whether it was told which rank reads what. */
  byRank: boolean;
  /** The indexes that it read. */
  index: string | null;
  /** What each rank opens, as far as this one has been told. */
  lists: [rank: number, paths: string[]][];
  /** What is in its own files. */
  files: { path: string; metadata: [string, string][]; tensors: ToldTensor[] }[];
}

/**
 * Opens this rank's files and learns from the others what is in theirs. After an error none of them is open.
 *
 * @param prepare finds what is to be opened, and from where
 * @returns what is in all files, and what `prepare` found
 * @throws {GroupError} on every rank if one cannot open its files, or the ranks were told different things
 * @throws {SafeTensorsError} on every rank if a name occurs twice, or files and index disagree
 * @throws {TypeError} on every rank if no rank has a file
 */
export async function openShared<F extends SourceFile, E extends { readonly source: Source<F> }>(
  group: ProcessGroup,
  prepare: () => Promise<{ equipment: E; inputs: DealtInputs }>,
  signal?: AbortSignal,
  list?: ListFile<F>,
): Promise<{ catalog: Catalog<F>; equipment: E }> {
  const { equipment, own, inputs, told } = await RankQueue.of(group).run({
    label: "open files",
    signal,
    prepare: async ({ unlessDone }) => {
      const { equipment, inputs } = await prepare();
      const paths = inputs.lists.get(group.rank) ?? [];
      const own = await openPart(equipment.source, { ...inputs, paths }, signal, list);
      unlessDone.defer(() => void closeAll(own.files).catch(() => {}));
      return { equipment, own, inputs };
    },
    move: async ({ equipment, own, inputs }) => {
      const told = await group.allGather(tell(group.rank, own, inputs) as unknown as Json, "headers");
      return { equipment, own, inputs, told: told as unknown as Told[] };
    },
  });
  try {
    compareTold(told);
    return { catalog: await mergeTold(group, own, inputs, told), equipment };
  } catch (error) {
    await closeAll(own.files);
    throw error;
  }
}

function tell(rank: number, own: Catalog, { byRank, indexes, lists }: DealtInputs): Told {
  const files = own.files.map(({ path }) => {
    return { path, metadata: [...own.metadata.get(path)!], tensors: [] as ToldTensor[] };
  });
  for (const { name, dtype, shape, file, fileOffset, byteLength, aliasOf } of own.tensors.values()) {
    const code = DTYPES.indexOf(dtype);
    files[file]!.tensors.push([name, code, [...shape], fileOffset, byteLength, aliasOf ?? null]);
  }
  const told = new Map([[rank, []], ...lists]); // a rank without files says so
  const index = indexes.map(({ path }) => path).join('", "') || null;
  return { byRank, index, lists: [...told].map(([rank, paths]) => [rank, [...paths]]), files };
}

/** Whatever two ranks say of the files of a third must be the same; if not, that is put down to the later of the two. */
function compareTold(told: readonly Told[]): void {
  const lists = told.map(({ lists }) => new Map(lists));
  for (const [rank, { byRank, index }] of told.entries()) {
    if (byRank !== told[0]!.byRank) {
      throw disagreement(rank, `rank ${rank} and rank 0 were not both given files by rank`);
    }
    if (index !== told[0]!.index) {
      const [said, other] = [named(index), named(told[0]!.index)];
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

async function mergeTold<F extends SourceFile>(
  group: ProcessGroup,
  own: Catalog<F>,
  inputs: DealtInputs,
  told: readonly Told[],
): Promise<Catalog<F>> {
  const turn = new Turn();
  const merged = new MergedTensors<CatalogTensor>(inputs.indexes, (tensor) => pathOf(own, tensor));
  const metadata = new Map<string, ReadonlyMap<string, string>>();
  for (const home of inOrder(told)) {
    const { metadata: entries, tensors: list } = told[home.rank]!.files[home.round]!;
    metadata.set(home.path, new Map(entries));
    for (const one of list) {
      if (merged.tensors.size % STEP === 0) await turn.pause();
      const [name] = one;
      const tensor = home.rank === group.rank ? { ...own.tensors.get(name)!, home } : elsewhere(one, home);
      merged.add(tensor);
    }
  }
  if (told.every(({ files }) => files.length === 0)) throw noFiles();
  const { tensors } = merged;
  const known = { missing: new Map(own.missing), notes: [...own.notes, ...merged.notes()] };
  const pathOfName = (name: string) => pathOf(own, tensors.get(name)!);
  const compared = await finishInTurns(compareIndexes(known, tensors, pathOfName, inputs.indexes));
  return { ...own, tensors, metadata, group, ...compared };
}

/** The files of all ranks in the order in which they were named. */
function inOrder(told: readonly Told[]): FileHome[] {
  const homes = told.flatMap(({ files }, rank) => files.map(({ path }, round) => ({ path, rank, round })));
  return told[0]!.byRank ? homes : homes.sort((a, b) => a.round - b.round || a.rank - b.rank);
}

function elsewhere(
  [name, dtype, shape, fileOffset, byteLength, aliasOf]: ToldTensor,
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
