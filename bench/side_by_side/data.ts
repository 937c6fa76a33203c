/**
 * The files that the contenders load: created, or found in the user's folder.
 */
import { ProgressBar } from "../../src/cli/progress_bar.ts";
import { writeSyntheticModel } from "../../src/cli/synthetic_model.ts";

/** The files. */
export interface Data {
  /** A model in shards. */
  readonly shards: readonly string[];
  /** A model of the same size in one file; null for a found model. */
  readonly oneFile: string | null;
  /** Bytes of the shards. */
  readonly bytes: number;
}

/** The subfolder of the model in one file; its presence marks a folder of this module. */
const ONE_FILE = "one_file";

/**
 * Uses the model in `folder`, or creates one there: 4 shards, and the same size in one file.
 *
 * @param withOneFile whether to create the latter
 */
export async function prepareData(folder: string, bytes: number, withOneFile = true): Promise<Data> {
  const found = await safetensorsIn(folder);
  if (found.length > 0) {
    const one = await safetensorsIn(`${folder}/${ONE_FILE}`);
    return { shards: found, oneFile: one[0] ?? null, bytes: await totalSize(found) };
  }
  using bar = new ProgressBar("Writing");
  await Deno.mkdir(folder, { recursive: true });
  const total = withOneFile ? 2 * bytes : bytes;
  const { paths } = await writeSyntheticModel(folder, {
    bytes,
    onProgress: (done) => bar.update(done, total),
  });
  let oneFile: string | null = null;
  if (withOneFile) {
    await Deno.mkdir(`${folder}/${ONE_FILE}`, { recursive: true });
    const one = await writeSyntheticModel(`${folder}/${ONE_FILE}`, {
      bytes,
      shards: 1,
      onProgress: (done) => bar.update(bytes + done, total),
    });
    oneFile = one.paths[0]!;
  }
  return { shards: paths, oneFile, bytes: await totalSize(paths) };
}

async function safetensorsIn(folder: string): Promise<string[]> {
  try {
    const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
    return names.filter((name) => name.endsWith(".safetensors")).sort().map((name) => `${folder}/${name}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function totalSize(paths: readonly string[]): Promise<number> {
  const infos = await Promise.all(paths.map((path) => Deno.stat(path)));
  return infos.reduce((sum, { size }) => sum + size, 0);
}
