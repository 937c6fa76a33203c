/**
 * Load a model from the Hugging Face cache, as the Hub's tools write it: folders of symbolic links to blobs.
 *
 *     deno run -A examples/hugging_face_cache.ts [organization/model]
 *
 * Without arguments it loads the first model in the cache (`$HF_HOME/hub`, by default `~/.cache/huggingface/hub`). If
 * there is none, it makes a folder of the same form, and removes it at the end.
 */
import { fastsafeOpen, serialize } from "@x/fastsafetensors";

const [wanted] = Deno.args;
const home = Deno.env.get("HF_HOME") ?? `${Deno.env.get("HOME")}/.cache/huggingface`;
let snapshot = await findSnapshot(`${home}/hub`, wanted);
let made: string | undefined;
if (snapshot === undefined && wanted === undefined) {
  console.log(`No model with safetensors in ${home}/hub: creating a sample`);
  made = await makeCache();
  snapshot = await findSnapshot(made);
}
try {
  if (snapshot === undefined) throw new Error(`Cannot find "${wanted}" in ${home}/hub`);
  // A folder with an index loads by its index. Links are followed.
  await using model = await fastsafeOpen(snapshot);
  await model.whenLoaded();
  const { files, tensors, bytes, gigabytesPerSecond } = model.stats();
  console.log(`${snapshot}: ${tensors} tensors of ${bytes} bytes from ${files} files`);
  console.log(`${gigabytesPerSecond.toFixed(3)} GB/s`);
} finally {
  if (made) await Deno.remove(made, { recursive: true });
}

/** The newest snapshot of a model that has safetensors files. */
async function findSnapshot(hub: string, model?: string): Promise<string | undefined> {
  const found: { path: string; time: number }[] = [];
  for (const repository of await list(hub)) {
    const isWanted = model
      ? repository === `models--${model.replace("/", "--")}`
      : repository.startsWith("models--");
    if (!isWanted) continue;
    for (const revision of await list(`${hub}/${repository}/snapshots`)) {
      const path = `${hub}/${repository}/snapshots/${revision}`;
      if (!(await list(path)).some((file) => file.endsWith(".safetensors"))) continue;
      found.push({ path, time: (await Deno.stat(path)).mtime?.getTime() ?? 0 });
    }
    if (found.length > 0) break;
  }
  return found.sort((a, b) => b.time - a.time)[0]?.path;
}

/** The names in a folder, in order; none if the folder does not exist. */
async function list(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), (entry) => entry.name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}

/** A cache with one model of two shards and an index. */
async function makeCache(): Promise<string> {
  const hub = await Deno.makeTempDir();
  const repository = `${hub}/models--someone--tiny`;
  const snapshot = `${repository}/snapshots/0123abcd`;
  await Deno.mkdir(`${repository}/blobs`, { recursive: true });
  await Deno.mkdir(snapshot, { recursive: true });
  const add = async (name: string, content: Uint8Array<ArrayBuffer>) => {
    const blob = new Uint8Array(await crypto.subtle.digest("SHA-256", content)).toHex();
    await Deno.writeFile(`${repository}/blobs/${blob}`, content);
    await Deno.symlink(`../../blobs/${blob}`, `${snapshot}/${name}`);
  };
  const weightMap: Record<string, string> = {};
  for (const shard of [1, 2]) {
    const file = `model-0000${shard}-of-00002.safetensors`;
    const data = new Float32Array(1024).fill(shard);
    await add(file, serialize({ [`layers.${shard}.weight`]: { dtype: "F32", shape: [32, 32], data } }));
    weightMap[`layers.${shard}.weight`] = file;
  }
  const index = JSON.stringify({ metadata: { total_size: 2 * 4096 }, weight_map: weightMap });
  await add("model.safetensors.index.json", new TextEncoder().encode(index));
  return hub;
}
