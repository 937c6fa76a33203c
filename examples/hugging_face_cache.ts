/**
 * Load a model from the Hugging Face cache, as the Hub's tools write it: folders of symbolic links to blobs.
 *
 *     deno run -A examples/hugging_face_cache.ts [organization/model]
 *
 * Without arguments it loads the first model in the cache (`$HF_HOME/hub`, by default `~/.cache/huggingface/hub`). If
 * there is none, it makes a folder of the same form, and removes it at the end.
 */
import { fastsafeOpen, SafeTensorsError, serialize } from "@x/fastsafetensors";

const [wanted] = Deno.args;
let hub = `${Deno.env.get("HF_HOME") ?? `${Deno.env.get("HOME")}/.cache/huggingface`}/hub`;
const cached = (await list(hub)).filter((name) => name.startsWith("models--"));
const made = cached.length === 0 && wanted === undefined ? await makeCache() : null;
if (made) {
  console.log(`No model in ${hub}: creating a sample`);
  cached.push(...await list(hub = made));
}
try {
  for (const name of wanted === undefined ? cached : [`models--${wanted.replace("/", "--")}`]) {
    try {
      // The folder of a model stands for the snapshot that refs/main names. Links are followed.
      await using model = await fastsafeOpen(`${hub}/${name}`);
      await model.whenLoaded();
      const { files, tensors, bytes, seconds } = model.stats();
      console.log(
        `${name}: ${tensors} tensors of ${bytes} bytes from ${files} files in ${seconds.toFixed(3)} s`,
      );
      break;
    } catch (error) {
      const isOther = error instanceof SafeTensorsError && error.code === "NoTensorFiles";
      if (!isOther || wanted !== undefined) throw error;
      console.log(`${name}: no safetensors files`);
    }
  }
} finally {
  if (made) await Deno.remove(made, { recursive: true });
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
