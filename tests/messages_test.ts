/**
 * Messages of errors: they show every name or path without control characters, and stay short.
 */
import { assert, assertEquals } from "@std/assert";
import { deserialize, fastsafeOpen, readHeader, saveFile, serialize } from "../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../src/compat/mod.ts";
import { openPyTorch } from "../src/pytorch/mod.ts";
import { sources } from "./docs/pages.ts";
import "./support/open_library.ts";

/** Names in a hostile file, and their beginning in a message. */
const NAMES: readonly (readonly [name: string, shown: string])[] = [
  ["a\u001b[2Jb\u0007\r\n", String.raw`a\u001b[2Jb\u0007\r\n`],
  ["\u009b31mred\u007f", String.raw`\u009b31mred\u007f`],
  ["exe.\u202egpj\u2066\u200f", String.raw`exe.\u202egpj\u2066\u200f`],
  ['x"; rm -rf "y', String.raw`x\"; rm -rf \"y`],
  ["n".repeat(1_000_000), "n".repeat(80)],
  ['"\u001b'.repeat(500_000), String.raw`\"\u001b\"\u001b`],
];

const data = new Float32Array([1, 2]);

/** A safetensors file with this header. */
function withHeader(header: string, dataBytes = 8): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(header);
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

/** Calls that fail because of a name, which their messages contain. */
function failures(name: string, folder: string): Readonly<Record<string, () => unknown>> {
  const key = JSON.stringify(name);
  const good = `${folder}/good.safetensors`;
  const model = async (use: (model: Awaited<ReturnType<typeof fastsafeOpen>>) => unknown) => {
    await Deno.writeFile(good, serialize({ [name]: { dtype: "F32", shape: [2], data } }));
    await using opened = await fastsafeOpen(good, { lazy: true });
    return await use(opened);
  };
  const path = `${folder}/${name}`;
  return {
    "a dtype that is not known": () =>
      deserialize(withHeader(`{${key}:{"dtype":"X","shape":[2],"data_offsets":[0,8]}}`)),
    "a dtype of this name": () =>
      deserialize(withHeader(`{"w":{"dtype":${key},"shape":[2],"data_offsets":[0,8]}}`)),
    "a wrong length": () =>
      deserialize(withHeader(`{${key}:{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`)),
    "a hole": () => deserialize(withHeader(`{${key}:{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`)),
    "a name twice": () => {
      const entry = `${key}:{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`;
      return deserialize(withHeader(`{${entry},${entry}}`));
    },
    "a tensor that is not there": () => model((opened) => opened.getTensor(`${name}?`)),
    "a name that is not there": () => fastsafeOpen(good, { names: [`${name}?`] }),
    "an index out of range": () => model((opened) => opened.getSlice(name, 9)),
    "a wrong dimension": () => model((opened) => opened.getSharded(name, 7)),
    "an unknown option": () => fastsafeOpen(good, { [name]: 1 } as never),
    "a device": () => fastsafeOpen(good, { device: name as never }),
    "a dtype to cast to": () => fastsafeOpen(good, { dtype: name as never }),
    "a source": () => fastsafeOpen(good, { source: name as never }),
    "a path": () => fastsafeOpen(path),
    "a path of a checkpoint": () => openPyTorch(path),
    "a path of a header": () => readHeader(path),
    "a path of a loader": () => new ParallelLoader(null, path).iterateWeights().next(),
    "a shape": () => new SafeTensorsFileLoader().getShape(name),
    "data of a wrong length": () => serialize({ [name]: { dtype: "F32", shape: [3], data } }),
    "a dtype to save": () => serialize({ w: { dtype: name as never, shape: [2], data } }),
    "a dtype of a save": () =>
      saveFile({ [name]: { dtype: "F32", shape: [3], data } }, `${folder}/out.safetensors`),
    "a path of a save": async () => {
      await Deno.mkdir(path, { recursive: true }).catch(() => {}); // if the name is not too long
      return await saveFile({ w: { dtype: "F32", shape: [2], data } }, path, { overwrite: true });
    },
  };
}

/** Characters that messages must not contain: control characters and marks of writing direction. */
// deno-lint-ignore no-control-regex
const STEERING = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/u;

for (const [name, shown] of NAMES) {
  Deno.test(`messages quote the name ${shown.slice(0, 20)} and stay short`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      for (const [what, call] of Object.entries(failures(name, folder))) {
        const error = await Promise.try(call).then(() => null, (error) => error);
        assert(error instanceof Error, `${what} is not refused`);
        const { message } = error;
        assertEquals(STEERING.test(message), false, `${what}: ${JSON.stringify(message.slice(0, 400))}`);
        // Two names and a sentence; a list of known words has this length at most.
        assert(message.length < 900, `${what} has ${message.length} characters: ${message.slice(0, 400)}`);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("messages quote texts only with quote()", () => {
  /** Constants, texts for shells, and labels of calls, which ranks compare as whole texts. */
  const FINE =
    /"\$\{(METADATA_KEY|String\.fromCharCode\(byte\)|printable\(label\)|PROGRAM|XDG_CACHE_HOME:.*)\}|getTensor|getSlice|getSharded|pushTensor|next tensors/;
  const raw = sources(["src", "ffi"], [".ts"]).entries()
    .filter(([path]) => !path.startsWith("src/cli/completions/") && path !== "src/base/text.ts")
    .flatMap(([path, text]) =>
      text.split("\n").filter((line) =>
        /"\$\{/.test(line) && !/^\s*(\*|\/\/|\/\*)/.test(line) && !FINE.test(line)
      )
        .map((line) => `${path}: ${line.trim()}`)
    ).toArray();
  assertEquals(raw, []);
});
