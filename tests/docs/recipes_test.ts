/**
 * The programs of docs/recipes.md: what they print and write in a folder with the files they need.
 * blocks_long_test.ts checks their types.
 */
import { assertEquals } from "@std/assert";
import { deserialize } from "../../mod.ts";
import { tempFolder, type TensorSpec, writeFile } from "../support/models.ts";
import { type Requirement, suite } from "../support/skip.ts";
import { missing as noAdapter } from "../webgpu/support.ts";
import { type Block, page, RECIPES, ROOT } from "./pages.ts";
import { commandLine } from "./programs.ts";

/** A tensor of 32-bit floats. */
function f32(name: string, shape: number[], values: number[]): TensorSpec {
  return { name, dtype: "F32", shape, bytes: new Uint8Array(Float32Array.from(values).buffer) };
}

/** A tensor of small whole numbers as BF16, whose bits are the upper half of those of F32. */
function bf16(name: string, shape: number[], values: number[]): TensorSpec {
  const bits = new Uint32Array(Float32Array.from(values).buffer);
  return {
    name,
    dtype: "BF16",
    shape,
    bytes: new Uint8Array(Uint16Array.from(bits, (b) => b >>> 16).buffer),
  };
}

/** A model in a folder of its own. */
async function writeModel(folder: string, name: string, tensors: readonly TensorSpec[]): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  await writeFile(`${folder}/${name}.safetensors`, tensors);
}

/** The tensors of a file that a program has written: name → dtype, shape and elements. */
async function written(path: string): Promise<Record<string, unknown[]>> {
  const tensors = deserialize(await Deno.readFile(path));
  return Object.fromEntries(
    tensors.entries().map(([name, { dtype, shape, data }]) => [name, [dtype, shape, [...data]]]),
  );
}

/** What a recipe needs, and what must come out. */
interface Scene {
  prepare(folder: string): Promise<unknown>;
  readonly args?: readonly string[];
  /** The lines that it prints, in any order. */
  readonly prints: readonly string[];
  /** Checks the files that it has written. */
  check?(folder: string): Promise<void>;
  readonly needs?: Requirement;
  readonly missing?: string | null;
}

const SCENES: Readonly<Record<string, Scene>> = {
  "Load from Hugging Face": {
    async prepare(folder) {
      const cached = `${folder}/hub/models--org--name`;
      await writeModel(`${cached}/snapshots/0123abcd`, "model", [f32("a", [1], [1]), f32("b", [1], [2])]);
      await writeModel(`${cached}/snapshots/89efabcd`, "model", [f32("old", [1], [1])]);
      await Deno.mkdir(`${cached}/refs`);
      await Deno.writeTextFile(`${cached}/refs/main`, "0123abcd");
    },
    prints: ["org/name: 2 tensors"],
  },
  "Search by similarity": {
    prepare: (folder) =>
      writeModel(`${folder}/model`, "model", [
        bf16("embed.weight", [6, 2], [1, 0, 0, 1, 1, 1, 2, 0, -1, 0, 3, 1]),
        f32("other", [1], [0]),
      ]),
    prints: ["0 1.000", "3 1.000", "5 0.949", "2 0.707", "1 0.000"], // 3 / √10, 1 / √2
  },
  "Compute a small network": {
    prepare: (folder) =>
      writeFile(`${folder}/mlp.safetensors`, [
        bf16("fc1.weight", [2, 3], [1, 0, -1, 2, 1, 0]),
        f32("fc1.bias", [2], [0, -1]),
        f32("fc2.weight", [2, 2], [1, 2, 3, 4]),
        f32("fc2.bias", [2], [0.5, 0]),
      ]),
    args: ["1", "2", "3"], // hidden: -2 and 3
    prints: ["6.5 12"],
  },
  "Merge a LoRA adapter": {
    async prepare(folder) {
      const layer = "base_model.model.layers.0.q_proj";
      await writeModel(`${folder}/model`, "model", [
        bf16("layers.0.q_proj.weight", [2, 3], [1, 2, 3, 4, 5, 6]),
        bf16("norm.weight", [2], [1, 2]),
      ]);
      await writeModel(`${folder}/adapter`, "adapter_model", [
        f32(`${layer}.lora_A.weight`, [1, 3], [1, 2, 3]),
        f32(`${layer}.lora_B.weight`, [2, 1], [1, -1]),
      ]);
      await Deno.writeTextFile(`${folder}/adapter/adapter_config.json`, '{"lora_alpha": 2, "r": 1}');
    },
    prints: ["merged/model.safetensors"],
    async check(folder) {
      assertEquals(await written(`${folder}/merged/model.safetensors`), {
        // 3, 6, 9 and 2, 1, 0
        "layers.0.q_proj.weight": ["BF16", [2, 3], [0x4040, 0x40c0, 0x4110, 0x4000, 0x3f80, 0]],
        "norm.weight": ["BF16", [2], [0x3f80, 0x4000]],
      });
    },
  },
  "Quantize to 8 bits": {
    prepare: (folder) =>
      writeModel(`${folder}/model`, "model", [
        f32("q_proj.weight", [2, 2], [3.5, -7, 1.1640625, 3.5]),
        f32("norm.weight", [2], [1, 2]),
      ]),
    prints: ["q_proj.weight: 0.0390625"], // 5 / 128,
    async check(folder) {
      assertEquals(await written(`${folder}/quantized/model.safetensors`), {
        "q_proj.weight": ["F8_E4M3", [2, 2], [0x76, 0xfe, 0x71, 0x7e]], // 224, -448, 144 for 149, 448
        "q_proj.weight_scale": ["F32", [2, 1], [1 / 64, 1 / 128]],
        "norm.weight": ["F32", [2], [1, 2]],
      });
    },
  },
  "Multiply on the GPU": {
    prepare: (folder) =>
      writeModel(`${folder}/model`, "model", [
        bf16("proj.weight", [3, 4], [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, -1]),
      ]),
    prints: ["10 26 -1"],
    needs: "webgpu",
    missing: noAdapter,
  },
  "Convert checkpoints": {
    async prepare(folder) {
      await Deno.mkdir(`${folder}/checkpoints`);
      for (const name of ["bare.pt", "training.pt"]) {
        await Deno.copyFile(`${ROOT}tests/data/checkpoints/${name}`, `${folder}/checkpoints/${name}`);
      }
      await Deno.writeTextFile(`${folder}/checkpoints/notes.txt`, "not a checkpoint");
    },
    prints: ["bare.pt: 1 tensors", "training.pt: 7 tensors", "  left out: epoch", "  left out: optimizer"],
    async check(folder) {
      const names = [...Deno.readDirSync(`${folder}/converted`)].map(({ name }) => name).sort();
      assertEquals(names, ["bare.safetensors", "training.safetensors"]);
      assertEquals((await written(`${folder}/converted/bare.safetensors`))["bare"]?.slice(0, 2), ["F32", [
        2,
        3,
      ]]);
    },
  },
};

const blocks = new Map(
  page(RECIPES).text.split(/^## /m).slice(1).map((text): [string, Block] => {
    const heading = text.slice(0, text.indexOf("\n"));
    return [heading, page(RECIPES).blocks.find(({ text: code }) => text.includes(code))!];
  }),
);

/** Starts a program in a folder. */
async function start(folder: string, block: Block, args: readonly string[] = []): Promise<Deno.ChildProcess> {
  return new Deno.Command(Deno.execPath(), {
    args: await commandLine(folder, block.text, args),
    cwd: folder,
    env: { NO_COLOR: "1", HF_HOME: folder },
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("docs/recipes.md has one program under each heading, and each is tested", () => {
  assertEquals(page(RECIPES).blocks.length, blocks.size);
  assertEquals([...blocks.keys()].sort(), [...Object.keys(SCENES), "Serve rows over HTTP"].sort());
});

for (const [heading, scene] of Object.entries(SCENES)) {
  suite(`recipe "${heading}"`, scene.needs ?? "native", scene.missing ?? null, () => {
    Deno.test(`recipe "${heading}" prints and writes the expected results`, async () => {
      await using folder = await tempFolder();
      await scene.prepare(folder.path);
      const program = await start(folder.path, blocks.get(heading)!, scene.args);
      const { code, stdout, stderr } = await program.output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
      const lines = new TextDecoder().decode(stdout).split("\n").filter((line) => line !== "");
      assertEquals(lines.sort(), [...scene.prints].sort());
      await scene.check?.(folder.path);
    });
  });
}

Deno.test('recipe "Serve rows over HTTP" answers with rows, and with errors', async () => {
  await using folder = await tempFolder();
  await writeModel(`${folder.path}/model`, "model", [bf16("embed.weight", [3, 2], [1, 2, 3, 4, 5, 6])]);
  await using server = await start(folder.path, blocks.get("Serve rows over HTTP")!, ["0"]);
  const reader = server.stderr.getReader();
  const port = /localhost:(\d+)/.exec(new TextDecoder().decode((await reader.read()).value))?.[1];
  const address = `http://localhost:${port}`;
  const get = async (path: string) => {
    const response = await fetch(address + path);
    return [response.status, await response.json()];
  };
  assertEquals(await get("/embed.weight?rows=2,0"), [
    200,
    { name: "embed.weight", shape: [2, 2], values: [5, 6, 1, 2] },
  ]);
  const message = 'Cannot find tensor "embed": none of the 1 has this name';
  assertEquals(await get("/embed"), [404, { error: message }]);
  assertEquals((await get("/embed.weight?rows=3"))[0], 404);
  assertEquals((await get("/embed.weight?rows=x"))[0], 400);
  server.kill("SIGINT");
  assertEquals((await server.status).code, 0);
  await Promise.all([reader.cancel(), server.stdout.cancel()]);
});
