/**
 * The lines that ran: the sums of the output of `deno coverage` and gcov.
 */

/** File → line → the number of runs. */
export type Lines = Map<string, Map<number, number>>;

/** A group of files. */
export interface Share {
  /** Lines that can run. */
  readonly lines: number;
  /** Lines that ran. */
  readonly ran: number;
  /** `ran` of `lines` in percent; 100 without lines. */
  readonly percent: number;
}

/** Counts a line once more. */
export function add(lines: Lines, file: string, line: number, count: number): void {
  let counts = lines.get(file);
  if (!counts) lines.set(file, counts = new Map());
  counts.set(line, (counts.get(line) ?? 0) + count);
}

/**
 * Reads the LCOV text that `deno coverage --lcov` prints.
 *
 * @param root the repository's folder, with its slash: other files are skipped
 */
export function addLcov(lines: Lines, text: string, root: string): void {
  let file: string | null = null;
  for (const line of text.split("\n")) {
    if (line.startsWith("SF:")) {
      const path = line.slice(3);
      file = path.startsWith(root) ? path.slice(root.length) : null;
    } else if (line.startsWith("DA:") && file !== null) {
      const [number, count] = line.slice(3).split(",").map(Number);
      add(lines, file, number!, count!);
    }
  }
}

/** The relevant part of the output of `gcov --json-format`. */
interface GcovReport {
  /** The working folder of the compiler. */
  readonly current_working_directory: string;
  readonly files: readonly {
    readonly file: string;
    readonly lines: readonly { readonly line_number: number; readonly count: number }[];
  }[];
}

/** Files of tests with the names of sources, wherever a test builds them: in a copy of the repository, too. */
const OF_TESTS = /\/tests\/(sim|native\/added)\//;

/**
 * Reads what `gcov --json-format --stdout` prints: one document on each line.
 *
 * @param sources paths below native/: a build has them in a separate folder; other files are skipped
 * @param root the repository's folder, with its slash: in its tests/, stand-ins have files of the same names
 */
export function addGcov(lines: Lines, text: string, sources: ReadonlySet<string>, root: string): void {
  for (const document of text.split("\n").filter((line) => line.startsWith("{"))) {
    const { current_working_directory: folder, files } = JSON.parse(document) as GcovReport;
    for (const { file, lines: counted } of files) {
      const path = new URL(file, `file://${folder}/`).pathname;
      if (path.startsWith(`${root}tests/`) || OF_TESTS.test(path)) continue;
      const folders = path.split("/");
      const name = [3, 2, 1].map((parts) => folders.slice(-parts).join("/")).find((end) => sources.has(end));
      if (name === undefined) continue;
      for (const { line_number, count } of counted) add(lines, `native/${name}`, line_number, count);
    }
  }
}

/**
 * Drops the lines of functions in C that are compiled for AVX-512, for a processor that cannot run them.
 *
 * @param sources path below native/ → text
 * @returns how many lines were dropped
 */
export function dropAvx512(lines: Lines, sources: Readonly<Record<string, string>>): number {
  let dropped = 0;
  for (const [name, text] of Object.entries(sources)) {
    const counts = lines.get(`native/${name}`);
    if (!counts) continue;
    for (const { index, 0: body } of text.matchAll(AVX512_FUNCTION)) {
      const first = text.slice(0, index).split("\n").length;
      const length = body.split("\n").length;
      for (let line = first; line < first + length; line++) if (counts.delete(line)) dropped++;
    }
  }
  return dropped;
}

/** A function that the compiler translates for AVX-512, up to the brace in the first column. */
const AVX512_FUNCTION = /^(?:AVX512 |__attribute__\(\(target\("avx512[^"]*"\)\)\) )[^]*?^\}/gm;

/** The lines that ran in the files below a folder. */
export function share(lines: Lines, folder: string): Share {
  const counts = [...lines].filter(([file]) => file.startsWith(`${folder}/`)).flatMap((
    [, of],
  ) => [...of.values()]);
  const ran = counts.filter((count) => count > 0).length;
  return { lines: counts.length, ran, percent: counts.length === 0 ? 100 : 100 * ran / counts.length };
}

/** The lines of a file that did not run: "3, 7–9". */
export function gaps(counts: ReadonlyMap<number, number>): string {
  const numbers = [...counts.keys()].sort((a, b) => a - b);
  const ranges: [from: number, to: number][] = [];
  let open = false;
  for (const number of numbers) {
    if (counts.get(number)! > 0) open = false;
    else if (open) ranges.at(-1)![1] = number;
    else {
      ranges.push([number, number]);
      open = true;
    }
  }
  return ranges.map(([from, to]) => from === to ? `${from}` : `${from}–${to}`).join(", ");
}
