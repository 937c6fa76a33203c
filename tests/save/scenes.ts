/**
 * Scenes for failures during a save: the old files, and the new files that replace them.
 */
import { assert, assertEquals } from "@std/assert";
import { fastsafeOpen, saveFile, type SaveOptions, type SaveReport } from "../../mod.ts";
import { carryOutIfUnchanged, findLeftovers } from "../../src/save/repair.ts";
import type { Written } from "../support/models.ts";
import { exists } from "../support/skip.ts";
import { namesIn, pairs, parseFile } from "./support.ts";

/** A scene. */
export interface Scene {
  readonly what: string;
  /** Number of tensors, and of files, in the old set; 0 without one. */
  readonly old: number;
  /** Number of tensors, and of files, in the new set. */
  readonly new: number;
}

/** All combinations: one file or several, and one, several or no old files. */
export const SCENES: readonly Scene[] = [
  { what: "one file", old: 0, new: 1 },
  { what: "one file over another", old: 1, new: 1 },
  { what: "one file over a set", old: 3, new: 1 },
  { what: "a set", old: 0, new: 3 },
  { what: "a set over one file", old: 1, new: 3 },
  { what: "a set over one of as many files", old: 3, new: 3 },
  { what: "a set over one of more files", old: 3, new: 2 },
];

/** The value of all elements of the old tensors, and of the new ones. */
export const OLD = 1, NEW = 2;

/** Bytes of a tensor: more than a page, and not a whole number of pages. */
const SIZE = 10_001;

/** Tensors in which all bytes are equal. */
export function tensorsOf(count: number, fill: number): Written[] {
  return Array.from({ length: count }, (_, n) => {
    const bytes = new Uint8Array(SIZE).fill(fill);
    return { name: `t${n}`, dtype: "U8", shape: [SIZE], bytes } as const;
  });
}

/** Saves each tensor into its own file. */
export function save(
  folder: string,
  tensors: readonly Written[],
  options: SaveOptions = {},
): Promise<SaveReport> {
  return saveFile(pairs(tensors), `${folder}/model.safetensors`, { maxShardBytes: SIZE, ...options });
}

/** Creates the old files. */
export async function prepare(folder: string, scene: Scene): Promise<void> {
  if (scene.old > 0) await save(folder, tensorsOf(scene.old, OLD));
}

/** Saves the new files of a scene. */
export function act(folder: string, scene: Scene, options: SaveOptions = {}): Promise<SaveReport> {
  return save(folder, tensorsOf(scene.new, NEW), { overwrite: scene.old > 0, ...options });
}

/** Completes or undoes all interrupted saves in a folder. */
export async function repairAll(folder: string): Promise<void> {
  const { repairs, refused } = await findLeftovers(folder, Deno.uid());
  assertEquals(refused, []);
  for (const repair of repairs) await carryOutIfUnchanged(repair, Deno.uid());
}

/** The set in the folder, by the names and bytes of its files; fails for another content. */
export async function assertOldOrNew(
  folder: string,
  scene: Scene,
  overlooked: (name: string) => boolean = () => false,
): Promise<typeof OLD | typeof NEW | 0> {
  const names = namesIn(folder).filter((name) => !overlooked(name));
  if (names.length === 0) return 0;
  const paths = names.filter((name) => name.endsWith(".safetensors")).map((name) => `${folder}/${name}`);
  const found = new Set<number>();
  let count = 0;
  for (const path of paths) {
    for (const { bytes } of (await parseFile(path)).tensors.values()) {
      count++;
      for (const byte of bytes) found.add(byte);
    }
  }
  const [fill] = found;
  assert(found.size === 1 && (fill === OLD || fill === NEW), `${names}: ${[...found]}`);
  assertEquals(count, fill === OLD ? scene.old : scene.new);
  assertEquals(names.length, count === 1 ? 1 : count + 1, String(names));
  return fill;
}

/**
 * Fails if the files of a set mix old and new tensors: a program without support for journals would load the mixture.
 */
export async function assertNoMixture(folder: string): Promise<void> {
  const found = new Set<number>();
  // A link whose target does not have its name yet counts as missing.
  const names = namesIn(folder).filter((name) => exists(`${folder}/${name}`));
  for (const name of names) {
    if (!/^model(-\d{5}-of-\d{5})?\.safetensors$/.test(name)) continue;
    for (const { bytes } of (await parseFile(`${folder}/${name}`)).tensors.values()) found.add(bytes[0]!);
  }
  if (found.size < 2) return;
  // The old index still exists, and the new set is one file; or the new index exists, and the old set was one file.
  const single = names.includes("model.safetensors");
  assert(single && names.includes("model.safetensors.index.json"), `${names}: ${[...found]}`);
}

/** The set that a model opens as. */
export async function openedAs(path: string, scene: Scene): Promise<typeof OLD | typeof NEW> {
  await using model = await fastsafeOpen(path);
  const found = new Set<number>();
  for await (const [, { bytes }] of model) for (const byte of bytes) found.add(byte);
  const [fill] = found;
  assert(found.size === 1 && (fill === OLD || fill === NEW), String([...found]));
  assertEquals(model.keys().length, fill === OLD ? scene.old : scene.new);
  return fill;
}
