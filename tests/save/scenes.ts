/**
 * Scenes for what goes wrong in the midst of a save: what is there before, and what is saved over it.
 */
import { assert, assertEquals } from "@std/assert";
import { fastsafeOpen, saveFile, type SaveOptions, type SaveReport } from "../../mod.ts";
import { carryOutAsFound, findLeftovers } from "../../src/save/repair.ts";
import type { Written } from "../support/models.ts";
import { exists } from "../support/skip.ts";
import { namesIn, pairs, parseFile } from "./support.ts";

/** A scene. */
export interface Scene {
  readonly what: string;
  /** Tensors, and so files, of the old set; 0 for none. */
  readonly old: number;
  /** Tensors, and so files, of the new one. */
  readonly new: number;
}

/** Every way of taking a place: one file or several, and what was there. */
export const SCENES: readonly Scene[] = [
  { what: "one file", old: 0, new: 1 },
  { what: "one file over another", old: 1, new: 1 },
  { what: "one file over a set", old: 3, new: 1 },
  { what: "a set", old: 0, new: 3 },
  { what: "a set over one file", old: 1, new: 3 },
  { what: "a set over one of as many files", old: 3, new: 3 },
  { what: "a set over one of more files", old: 3, new: 2 },
];

/** The elements of a scene's old tensors are all this, those of the new ones that. */
export const OLD = 1, NEW = 2;

/** Bytes of a tensor: more than a page, and no whole pages. */
const SIZE = 10_001;

/** Tensors of one byte again and again. */
export function tensorsOf(count: number, fill: number): Written[] {
  return Array.from({ length: count }, (_, n) => {
    const bytes = new Uint8Array(SIZE).fill(fill);
    return { name: `t${n}`, dtype: "U8", shape: [SIZE], bytes } as const;
  });
}

/** Saves, each tensor into a file of its own. */
export function save(
  folder: string,
  tensors: readonly Written[],
  options: SaveOptions = {},
): Promise<SaveReport> {
  return saveFile(pairs(tensors), `${folder}/model.safetensors`, { maxShardBytes: SIZE, ...options });
}

/** Makes what is there before. */
export async function prepare(folder: string, scene: Scene): Promise<void> {
  if (scene.old > 0) await save(folder, tensorsOf(scene.old, OLD));
}

/** Saves what a scene saves. */
export function act(folder: string, scene: Scene, options: SaveOptions = {}): Promise<SaveReport> {
  return save(folder, tensorsOf(scene.new, NEW), { overwrite: scene.old > 0, ...options });
}

/** Completes or undoes whatever interrupted saves have left in a folder. */
export async function repairAll(folder: string): Promise<void> {
  const { repairs, refused } = await findLeftovers(folder, Deno.uid());
  assertEquals(refused, []);
  for (const repair of repairs) await carryOutAsFound(repair, Deno.uid());
}

/** Which set is in the folder, by the names of its files and by their bytes; fails for anything else. */
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
 * Fails if files with names of a set hold some of the old and some of the new: what a program would see that knows
 * nothing of journals.
 */
export async function assertNoMixture(folder: string): Promise<void> {
  const found = new Set<number>();
  // A link whose file has not its name is as good as none.
  const names = namesIn(folder).filter((name) => exists(`${folder}/${name}`));
  for (const name of names) {
    if (!/^model(-\d{5}-of-\d{5})?\.safetensors$/.test(name)) continue;
    for (const { bytes } of (await parseFile(`${folder}/${name}`)).tensors.values()) found.add(bytes[0]!);
  }
  if (found.size < 2) return;
  // The old index is still there, and the new set is one file, or the new index is, and the old set was one.
  const single = names.includes("model.safetensors");
  assert(single && names.includes("model.safetensors.index.json"), `${names}: ${[...found]}`);
}

/** Which set a model is opened as. */
export async function openedAs(path: string, scene: Scene): Promise<typeof OLD | typeof NEW> {
  await using model = await fastsafeOpen(path);
  const found = new Set<number>();
  for await (const [, { bytes }] of model) for (const byte of bytes) found.add(byte);
  const [fill] = found;
  assert(found.size === 1 && (fill === OLD || fill === NEW), String([...found]));
  assertEquals(model.keys().length, fill === OLD ? scene.old : scene.new);
  return fill;
}
