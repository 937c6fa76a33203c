/**
 * The blocks of code that `deno test --doc` leaves out (`ts ignore`), because they need files, devices or ranks: each is
 * run here, in a folder with the files it needs. `deno task test:doc` runs the others.
 */
import { assert, assertEquals } from "@std/assert";
import { standInEnv } from "../cuda/support.ts";
import { findLaunchers, runCommand } from "../ranks/group/ranks.ts";
import { tempFolder, writeFile, writeShards } from "../support/models.ts";
import { type Requirement, suite } from "../support/skip.ts";
import { missing as noAdapter } from "../webgpu/support.ts";
import { type Block, PAGES, read, ROOT } from "./pages.ts";
import { buildStandIn } from "../support/stand_in.ts";

/** The requirements of a block. */
interface Scene {
  /** Matches the text of the blocks that need it. */
  readonly fits: RegExp;
  readonly needs: Requirement;
  readonly missing: string | null;
  /** Makes the files. */
  prepare(folder: string): Promise<unknown>;
  readonly env?: () => Record<string, string>;
  /** Whether it is one program on four ranks. */
  readonly ranks?: boolean;
}

const w = { name: "w", dtype: "F32", shape: [4, 4] } as const;
const rows = (name: string) => ({ name, dtype: "F16", shape: [8, 4] }) as const;

const standIns = await buildStandIn("cuda");
const { found: [launcher] } = findLaunchers();

const SCENES: readonly Scene[] = [
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

/** Options with which a program of a folder finds the package. */
async function configure(folder: string): Promise<string[]> {
  const { exports } = JSON.parse(read("deno.json")) as { exports: Record<string, string> };
  const imports = Object.fromEntries(
    Object.entries(exports).map((
      [entry, path],
    ) => [`@x/fastsafetensors${entry.slice(1)}`, `file://${ROOT}${path}`]),
  );
  await Deno.writeTextFile(`${folder}/imports.json`, JSON.stringify({ imports }));
  return ["--config", `${ROOT}deno.json`, "--import-map", `${folder}/imports.json`];
}

/** Runs a block. */
async function run({ text }: Block, scene: Scene): Promise<void> {
  await using folder = await tempFolder();
  await scene.prepare(folder.path);
  await Deno.writeTextFile(`${folder.path}/program.ts`, text);
  const args = ["run", "-A", "--no-check", ...await configure(folder.path), `${folder.path}/program.ts`];
  const env = { NO_COLOR: "1", ...scene.env?.() };
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
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args, env, cwd: folder.path }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
}

const left = PAGES.flatMap(({ blocks }) => blocks).filter(({ kind }) => kind === "ts ignore");

Deno.test("the blocks that are run have right types", async () => {
  await using folder = await tempFolder();
  const paths = left.map(({ place }) => `${folder.path}/${place.replaceAll(/[^\w.]/g, "-")}.ts`);
  for (const [index, path] of paths.entries()) await Deno.writeTextFile(path, left[index]!.text);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["check", "--quiet", ...await configure(folder.path), ...paths], // all at once: each would take seconds
    env: { NO_COLOR: "1" },
  }).output();
  assert(success, new TextDecoder().decode(stderr));
});

for (const block of left) {
  const scene = SCENES.find(({ fits }) => fits.test(block.text));
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
