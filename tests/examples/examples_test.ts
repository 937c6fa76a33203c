import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { standInEnv } from "../cuda/support.ts";
import { findLaunchers, runCommand } from "../ranks/group/ranks.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { whyNotNpm } from "../support/npm.ts";
import { suite } from "../support/skip.ts";
import { buildStandIn } from "../support/stand_in.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;

/**
 * Runs an example in a process of its own; its lines. What it makes for itself it makes in a folder that must be empty
 * again.
 */
function run(example: string, ...args: string[]): Promise<string[]> {
  return runWith({}, example, ...args);
}

/** The same with more in its environment. */
async function runWith(env: Record<string, string>, example: string, ...args: string[]): Promise<string[]> {
  await using folder = await tempFolder();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", EXAMPLES + example, ...args],
    env: { NO_COLOR: "1", TMPDIR: folder.path, HF_HOME: `${folder.path}/none`, ...env },
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`${example} failed: ${decoder.decode(stderr)}`);
  assertEquals([...Deno.readDirSync(folder.path)], []);
  return decoder.decode(stdout).trimEnd().split("\n");
}

Deno.test("every example is tested", () => {
  const names = [...Deno.readDirSync(EXAMPLES)].map(({ name }) => name).sort();
  assertEquals(names, [
    "cuda.ts",
    "custom_device.ts",
    "custom_source.ts",
    "hugging_face_cache.ts",
    "run_parallel.ts",
    "run_single.ts",
    "save.ts",
    "slices.ts",
    "streaming.ts",
    "webgpu_matmul.ts",
    "webgpu_typegpu.ts",
  ]);
});

Deno.test("run_single.ts prints the tensors of its files", async () => {
  const lines = await run("run_single.ts");
  assertMatch(lines[0]!, /^a0: F16 \[16,8\] from .*\/a\.safetensors: 0, 1, 2, 3, …$/);
  assertMatch(lines[1]!, /^b0: F16 \[16,8\] from .*\/b\.safetensors: 0, 1, 2, 3, …$/);
  assertEquals(lines[2], "a0+b0: F16 [16,16]");
  assertMatch(lines[3]!, /^2 tensors, 512 bytes in /);
});

Deno.test("run_single.ts accepts files", async () => {
  await using folder = await tempFolder();
  const bytes = new Uint8Array(Int32Array.of(1, -2).buffer);
  await writeFile(`${folder.path}/x`, [{ name: "x", dtype: "I32", shape: [2], bytes }]);
  const lines = await run("run_single.ts", `${folder.path}/x`);
  assertEquals(lines[0], `x: I32 [2] from ${folder.path}/x: 1, -2, …`);
});

Deno.test("slices.ts reads parts of a tensor", async () => {
  const lines = await run("slices.ts");
  assertEquals(lines.slice(0, -1), [
    "table: F32 [1000,64], 256000 bytes",
    "[3]        one row      [64], 256 bytes: 192, 193, 194, …",
    "[-1]       the last     [64], 256 bytes: 63936, 63937, 63938, …",
    "[10:12]    two rows     [2,64], 512 bytes: 640, 641, 642, …",
    "[0:100:25] every 25th   [4,64], 1024 bytes: 0, 1, 2, …",
    "[:, 0]     one column   [1000], 4000 bytes: 0, 64, 128, …",
    "[..., 0:2] two columns  [1000,2], 8000 bytes: 0, 1, 64, …",
  ]);
  assertMatch(lines.at(-1)!, /^\d+ bytes were read$/);
});

Deno.test("slices.ts prints numbers for a tensor of BF16", async () => {
  await using folder = await tempFolder();
  const bytes = new Uint8Array(new Uint16Array(12).fill(0xc000).buffer); // -2
  await writeFile(`${folder.path}/x`, [{ name: "x", dtype: "BF16", shape: [12, 1], bytes }]);
  const lines = await run("slices.ts", `${folder.path}/x`, "x");
  assertEquals(lines[1], "[3]        one row      [1], 4 bytes: -2, …");
});

Deno.test("custom_source.ts reads headers and slices from signed URLs", async () => {
  assertEquals(await run("custom_source.ts"), [
    "embed: F32 [2000,64], 512000 bytes; the beginning: 0, 1, 2, …",
    "head: F32 [3], 12 bytes; the beginning: 7, 8, …",
  ]);
});

Deno.test("custom_device.ts brings tensors to where a WebAssembly function adds them up", async () => {
  assertEquals(await run("custom_device.ts"), [
    "half: F32 [3], sum 3", // 0.5 + 1 + 1.5
    "rows: F32 [300,64], sum 604800", // 300 times 0 + 1 + … + 63
    "rows[1]: sum 2016",
    "wasm: 2 pages", // of 64 KiB, for 76,812 bytes and a slice
  ]);
});

Deno.test("streaming.ts yields every tensor once, cast, and prints progress", async () => {
  const lines = await run("streaming.ts");
  const tensors = lines.filter((line) => line.startsWith("layers.")).sort();
  assertEquals(
    tensors,
    Array.from({ length: 8 }, (_, n) => `layers.${n}.weight: F32 [256,256], largest ${n}`),
  );
  assertEquals(lines.includes("  100 %, 8 of 8 tensors"), true);
  assertEquals(lines.at(-1), "8 tensors with at most 256 MiB in memory");
});

Deno.test("hugging_face_cache.ts loads through symbolic links", async () => {
  const lines = await run("hugging_face_cache.ts");
  assertMatch(lines[0]!, /^No model in .*\/none\/hub: creating a sample$/);
  assertMatch(lines[1]!, /^models--someone--tiny: 2 tensors of 8192 bytes from 2 files in \d\.\d{3} s$/);
  assertEquals(lines.length, 2);
});

Deno.test("hugging_face_cache.ts takes the snapshot that refs/main names, and passes over other models", async () => {
  await using folder = await tempFolder();
  const model = `${folder.path}/hub/models--b--model`;
  await Deno.mkdir(`${folder.path}/hub/models--a--without/snapshots/1`, { recursive: true });
  await Deno.mkdir(`${model}/refs`, { recursive: true });
  await Deno.writeTextFile(`${model}/refs/main`, "2");
  for (const [snapshot, size] of [["1", 1], ["2", 3]] as const) {
    await Deno.mkdir(`${model}/snapshots/${snapshot}`, { recursive: true });
    await writeFile(`${model}/snapshots/${snapshot}/model.safetensors`, [{
      name: "w",
      dtype: "F32",
      shape: [size],
    }]);
  }
  const lines = await runWith({ HF_HOME: folder.path }, "hugging_face_cache.ts");
  assertEquals(lines[0], "models--a--without: no safetensors files");
  assertMatch(lines[1]!, /^models--b--model: 1 tensors of 12 bytes from 1 files in /);
});

Deno.test("cuda.ts reports a missing GPU", async () => {
  const lines = await runWith({ FASTSAFETENSORS_CUDART_LIB: "/nowhere/libcudart.so" }, "cuda.ts");
  assertEquals(lines.length, 1);
  assertMatch(
    lines[0]!,
    /^A load to CUDA is not possible: there is no libcudart: .*"\/nowhere\/libcudart\.so"/,
  );
});

const standIns = await buildStandIn("cuda");

suite("cuda.ts", "cuda", standIns.missing, () => {
  Deno.test("cuda.ts passes a tensor to other libraries [CUDA stand-in]", async () => {
    await using folder = await tempFolder();
    const report = `${folder.path}/report`;
    const lines = await runWith({ ...standInEnv(standIns.folder), FST_SIM_REPORT: report }, "cuda.ts");
    assertEquals(lines.slice(0, 2), ["weight: F16 [64,32], 4096 bytes on cuda:0", "way: buffered"]);
    assertMatch(lines.at(-3)!, /^address: 0x[0-9a-f]+0$/); // a multiple of 16
    assertEquals(lines.slice(-2), [
      "as F32: 0, 1, 2, 3, …",
      "DLPack: device type 2, device 0, 16 bits, [64,32]", // kDLCUDA
    ]);
    const { live, violations } = JSON.parse(await Deno.readTextFile(report));
    assertEquals([live.allocations, violations.total], [0, 0]);
  });
});

const adapter = (await navigator.gpu?.requestAdapter()) ? null : "there is no WebGPU adapter";

suite("webgpu_matmul.ts", "webgpu", adapter, () => {
  Deno.test("webgpu_matmul.ts multiplies like the CPU", async () => {
    const lines = await run("webgpu_matmul.ts");
    assertEquals(lines[0], "weight: BF16 [96,160] in a buffer of 30720 bytes");
    assertEquals(lines.at(-1), "96 rows, largest difference to the CPU: below 0.001");
  });
});

const typegpu = adapter ?? await whyNotNpm("npm:typegpu@0.12.5");

suite("webgpu_typegpu.ts", "npm", typegpu, () => {
  Deno.test("webgpu_typegpu.ts sums rows in another library's kernel", async () => {
    const sums = Array.from({ length: 32 }, (_, row) => 8 * row);
    assertEquals((await run("webgpu_typegpu.ts")).at(-1), `Sums of the rows: ${sums.join(", ")}`);
  });
});

Deno.test("save.ts saves, shards, loads again and compares", async () => {
  const lines = await run("save.ts");
  assertMatch(lines[0]!, /^one file: 5 tensors, 6242\d{3} bytes in one\.safetensors$/);
  assertMatch(
    lines[1]!,
    /^shards {2}: 5 tensors, 6243\d{3} bytes in model-00001-of-00003.* model\.safetensors\.index\.json$/,
  );
  assertEquals(lines.slice(2, 4), [
    "  lm_head.weight has the same memory as embed.weight: written once",
    "5 tensors have the same bytes after loading, from one file and from the shards",
  ]);
  assertMatch(lines[4]!, /^as BF16 : 5 tensors, 3121\d{3} bytes in half\.safetensors$/);
});

const { found: [launcher] } = findLaunchers();
suite("run_parallel.ts", "mpi", launcher ? null : "there is no mpirun", () => {
  Deno.test("run_parallel.ts prints each rank's tensors", async () => {
    await using folder = await tempFolder();
    const line = [Deno.execPath(), "run", "-A", `${EXAMPLES}run_parallel.ts`];
    const { code, stderr: lines } = await runCommand(launcher!, 2, line, { TMPDIR: folder.path });
    assertEquals([code, [...Deno.readDirSync(folder.path)].length], [0, 0], lines);
    assertMatch(lines, /^a0: \[16,8\] from .*\/a\.safetensors$/m);
    assertMatch(lines, /^b0: \[16,8\] from .*\/b\.safetensors$/m);
    for (const rank of [0, 1]) {
      assertMatch(
        lines,
        new RegExp(`^RANK ${rank}: tensor_a0=F16 \\[16,8\\]: 0, 0, 0, 0, 0, 0, 0, 0, …$`, "m"),
      );
      assertMatch(
        lines,
        new RegExp(`^RANK ${rank}: tensor_b0_sharded=F16 \\[16,4\\]: 0, 0, 0, 0, 1, 1, 1, 1, …$`, "m"),
      );
    }
  });
});

const REAL = new URL("../../../shared/data/real/", import.meta.url).pathname;
const noFiles = await Deno.stat(REAL).then(() => null, () => "../shared/data/real is not here");
suite(
  "run_parallel.ts on published files",
  "real-data",
  noFiles ?? (launcher ? null : "there is no mpirun"),
  () => {
    Deno.test("run_parallel.ts accepts files", async () => {
      const files = ["a", "b"].map((letter) => `${REAL}${letter}.safetensors`);
      const line = [Deno.execPath(), "run", "-A", `${EXAMPLES}run_parallel.ts`, ...files];
      const { code, stderr: lines } = await runCommand(launcher!, 2, line, {});
      assertEquals(code, 0, lines);
      for (const rank of [0, 1]) {
        // The numbers of the file, right behind its header: b0's columns 0 to 3 for rank 0, 4 to 7 for rank 1.
        const [a, b] = await Promise.all(files.map(async (file) => {
          const bytes = await Deno.readFile(file);
          return new Float16Array(bytes.slice(8 + new DataView(bytes.buffer).getUint32(0, true)).buffer);
        })) as [Float16Array, Float16Array];
        const half = [...b.slice(4 * rank, 4 * rank + 4), ...b.slice(8 + 4 * rank, 12 + 4 * rank)];
        assertStringIncludes(lines, `RANK ${rank}: tensor_a0=F16 [16,8]: ${a.slice(0, 8).join(", ")}, …\n`);
        assertStringIncludes(lines, `RANK ${rank}: tensor_b0_sharded=F16 [16,4]: ${half.join(", ")}, …\n`);
      }
    });
  },
);
