/**
 * The blocks of code that `deno test --doc` leaves out (`ts ignore`), because they need files, devices or ranks: each is
 * run here, in a folder with the files it needs. `deno task test:doc` runs the others, recipes_test.ts the recipes.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { standInEnv } from "../cuda/support.ts";
import { findLaunchers, runCommand } from "../ranks/group/ranks.ts";
import { HubServer } from "../support/hub_server.ts";
import { fileOf, tempFolder, writeFile, writeShards } from "../support/models.ts";
import { whyNotNpm } from "../support/npm.ts";
import { type Requirement, suite } from "../support/skip.ts";
import { missing as noAdapter } from "../webgpu/support.ts";
import { type Block, PAGES, RECIPES, ROOT } from "./pages.ts";
import { checkTypes, commandLine } from "./programs.ts";
import { buildStandIn } from "../support/stand_in.ts";

/** The requirements of a block. */
interface Scene {
  /** Matches the text of the blocks that need it. */
  readonly fits: RegExp;
  readonly needs: Requirement;
  readonly missing: string | null;
  /** Makes the files, or starts a stand-in of the Hub, to which the variables then point. */
  prepare(folder: string): Promise<unknown>;
  readonly env?: () => Record<string, string>;
  /** Whether it is one program on four ranks. */
  readonly ranks?: boolean;
  /** Matches its output. */
  readonly prints?: RegExp;
}

const w = { name: "w", dtype: "F32", shape: [4, 4] } as const;
const rows = (name: string) => ({ name, dtype: "F16", shape: [8, 4] }) as const;

/** [3, 2] with the elements 1 to 6. */
const MATRIX = {
  name: "w",
  dtype: "F32",
  shape: [3, 2],
  bytes: new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer),
} as const;

/** An ONNX model that computes y = x · w, for x of [1, 3] and w of [3, 2]; made with the onnx package of Python. */
const ONNX =
  "08083a550a110a01780a017712017922064d61744d756c1201675a130a0178120e0a0c080112080a0208010a0208035a" +
  "130a0177120e0a0c080112080a0208030a02080262130a0179120e0a0c080112080a0208010a02080242040a00100d";

const standIns = await buildStandIn("cuda");
const { found: [launcher] } = findLaunchers();

const SCENES: readonly Scene[] = [
  {
    fits: /"hf:/,
    needs: "native",
    missing: null,
    prepare() {
      const commit = "a".repeat(40);
      const files = { "model.safetensors": fileOf([w]).bytes };
      const repo = { id: "org/name", revisions: { main: commit }, commits: { [commit]: files } };
      return Promise.resolve(new HubServer(repo));
    },
  },
  {
    fits: /device: "cuda/,
    needs: "cuda",
    missing: standIns.missing,
    env: () => standInEnv(standIns.folder),
    prepare: (folder) => writeFile(`${folder}/model.safetensors`, [w]),
  },
  {
    fits: /device: "webgpu"/,
    needs: "webgpu",
    missing: noAdapter,
    prepare: (folder) => writeFile(`${folder}/model.safetensors`, [w]),
  },
  {
    fits: /onnxruntime/,
    needs: "npm",
    missing: await whyNotNpm("npm:onnxruntime-web@1.30.0"),
    async prepare(folder) {
      await writeFile(`${folder}/model.safetensors`, [MATRIX]);
      await Deno.writeFile(`${folder}/model.onnx`, Uint8Array.fromHex(ONNX));
    },
    prints: /^Float32Array\(2\) \[ 22, 28 \]$/m,
  },
  {
    fits: /jax-js/,
    needs: "npm",
    missing: await whyNotNpm("npm:@jax-js/jax@0.1.25"),
    prepare: (folder) => writeFile(`${folder}/model.safetensors`, [MATRIX]),
    prints: /^\[ \[ 22, 28 \] \]$/m,
  },
  {
    fits: /openPyTorch\(/,
    needs: "native",
    missing: null,
    prepare: (folder) =>
      Deno.copyFile(`${ROOT}tests/data/checkpoints/training.pt`, `${folder}/pytorch_model.bin`),
  },
  {
    fits: /MpiGroup\.create\(/,
    needs: "mpi",
    missing: launcher ? null : "there is no mpirun",
    ranks: true,
    async prepare(folder) {
      await Deno.mkdir(`${folder}/model`);
      await writeShards(`${folder}/model`, [[rows("embed"), rows("wq")], [rows("wk")]]);
      await writeFile(`${folder}/a.safetensors`, [rows("embed"), rows("wq"), rows("wk")]);
      await writeFile(`${folder}/b.safetensors`, [rows("wv"), rows("head")]);
    },
  },
];

/** Runs a block. */
async function run({ text }: Block, scene: Scene): Promise<void> {
  await using folder = await tempFolder();
  const prepared = await scene.prepare(folder.path);
  await using _server = prepared instanceof HubServer ? prepared : null;
  const args = await commandLine(folder.path, text);
  const variables = prepared instanceof HubServer
    ? { HF_ENDPOINT: prepared.endpoint, HF_HOME: folder.path, HF_TOKEN: "" }
    : {};
  const env = { NO_COLOR: "1", ...variables, ...scene.env?.() };
  if (scene.ranks) {
    // The launcher has no option for the folder that all of them know.
    const script = `cd "${folder.path}" && exec "$0" "$@"`;
    const { code, stderr } = await runCommand(
      launcher!,
      4,
      ["sh", "-c", script, Deno.execPath(), ...args],
      env,
    );
    return assertEquals(code, 0, stderr);
  }
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), { args, env, cwd: folder.path })
    .output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  assertMatch(new TextDecoder().decode(stdout), scene.prints ?? /^/);
}

const programs = PAGES.flatMap(({ blocks }) => blocks).filter(({ kind }) => kind === "ts ignore");

const sceneOf = ({ text }: Block) => SCENES.find(({ fits }) => fits.test(text));

Deno.test("the blocks that are run have right types", async () => {
  await using folder = await tempFolder();
  const isMissing = (block: Block) => sceneOf(block)?.needs === "npm" && sceneOf(block)?.missing !== null;
  await checkTypes(folder.path, programs.filter((block) => !isMissing(block)));
});

for (const block of programs.filter(({ place }) => !place.startsWith(RECIPES))) {
  const scene = sceneOf(block);
  if (!scene) Deno.test(`${block.place} runs`, () => Promise.reject(new Error("No scene fits this block")));
  else {
    suite(`${block.place} runs`, scene.needs, scene.missing, () => {
      Deno.test(`${block.place} runs`, () => run(block, scene));
    });
  }
}

Deno.test("every block of code in the documentation is of a kind that is checked", () => {
  const kinds = new Set(PAGES.flatMap(({ blocks }) => blocks.map(({ kind }) => kind)));
  assertEquals(kinds.difference(new Set(["ts", "ts ignore", "sh", "json"])), new Set());
  for (const { kind, text } of PAGES.flatMap(({ blocks }) => blocks)) if (kind === "json") JSON.parse(text);
});

Deno.test("test:doc runs the blocks of every page that has any", () => {
  const { command } = JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`)).tasks["test:doc"];
  const words: string[] = command.split(" ");
  const pages = PAGES.filter(({ blocks }) => blocks.some(({ kind }) => kind === "ts"));
  const unheard = pages.filter(({ path }) =>
    !words.some((word) => path === word || path.startsWith(`${word}/`))
  );
  assertEquals(unheard.map(({ path }) => path), []);
});
