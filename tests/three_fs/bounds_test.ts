/**
 * The bounds of a mount's rings and their memory in /dev/shm, for many loads, models and readers.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { DeviceError, fastsafeOpen } from "../../mod.ts";
import { createReader } from "../../src/three_fs/mod.ts";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { standInEnv, use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();

const MIB = 2 ** 20;

/** Tensors of several blocks each. */
const SPECS = Array.from({ length: 6 }, (_, index): TensorSpec => {
  return { name: `t${index}`, dtype: "U8", shape: [3 * MIB + index] };
});

usrbioSuite("The bounds of a mount", machine, (test, standIn) => {
  /** The most simultaneous rings during an action. */
  async function mostRings(run: Promise<unknown>): Promise<number> {
    let most = 0, ended = false;
    const end = () => ended = true;
    run.then(end, end);
    while (!ended) {
      most = Math.max(most, standIn.report().live.rings);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    await run;
    return most;
  }

  test("several loads of one model share its rings", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    using _ = standIn.set({ FST_SIM_3FS_LATENCY_US: "2000" });
    const options = { source: "3fs", lazy: true, maxThreads: 3, blockBytes: 2 ** 18 } as const;
    await using model = await fastsafeOpen(path, { ...options, usrbio: { bufferBytes: MIB } });
    const loads = tensors.map(async (tensor, index) => {
      await new Promise((resolve) => setTimeout(resolve, 3 * index)); // in separate turns
      assertTensor(await model.getTensor(tensor.name), tensor);
    });
    assert(await mostRings(Promise.all(loads)) <= 3);
    assert(standIn.report().counts.rings <= 3);
  });

  test("several models and readers share a mount's memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    using _ = standIn.set({ FST_SIM_3FS_LATENCY_US: "1000" });
    const usrbio = { bufferBytes: MIB };
    const run = async () => {
      await using one = await fastsafeOpen(path, { source: "3fs", lazy: true, maxThreads: 2, usrbio });
      await using two = await fastsafeOpen(path, { source: "3fs", lazy: true, maxThreads: 2, usrbio });
      await using three = await fastsafeOpen(path, { source: "3fs", lazy: true, maxThreads: 4, usrbio });
      await using reader = await createReader({ backend: "usrbio", ...usrbio });
      const { headerLength, fileSize } = (await reader.readHeadersBatch([path])).get(path)!;
      const buffer = new Uint8Array(fileSize - headerLength);
      await Promise.all([
        ...[one, two, three].flatMap((model) =>
          tensors.map(async (tensor) => assertTensor(await model.getTensor(tensor.name), tensor))
        ),
        reader.readChunked({ path, buffer, fileOffset: headerLength, totalLength: buffer.byteLength }),
      ]);
      assertEquals(buffer.subarray(0, 1000), tensors[0]!.bytes.subarray(0, 1000));
    };
    assert(await mostRings(run()) <= 4, "with the smallest rings there are four");
  });

  test("a load that waits for a ring can be aborted, and its model closed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const options = { source: "3fs", maxThreads: 1, lazy: true, usrbio: { bufferBytes: MIB } } as const;
    await using one = await fastsafeOpen(path, options);
    const two = await fastsafeOpen(path, options);
    {
      using _ = standIn.fail("lost:*:0");
      const ends = new AbortController();
      const three = await fastsafeOpen(path, { ...options, signal: ends.signal });
      const stuck = one.getTensor("t0").catch((error) => error);
      await new Promise((resolve) => setTimeout(resolve, 50));
      const closed = assertRejects(() => two.getTensor("t1"));
      const ended = assertRejects(() => three.getTensor("t2"), Error, "enough");
      await new Promise((resolve) => setTimeout(resolve, 50));
      await two.close();
      ends.abort(new Error("enough"));
      await Promise.all([closed, ended]);
      await three.close();
      await one.close();
      await stuck;
    }
  }, { abandoned: true });

  test("a mount whose rings are all broken is used again", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, SPECS);
    const options = { source: "3fs", lazy: true, usrbio: { timeoutSeconds: 0.1 } } as const;
    await using broken = await fastsafeOpen(path, options);
    {
      using _ = standIn.fail("lost:*:0,iovcreate:*:-5");
      await assertRejects(() => broken.getTensor("t0"), Error, "ETIMEDOUT");
      const refused = async () => {
        try {
          await using _ = await fastsafeOpen(path, options); // a lane may still hold its ring
          return null;
        } catch (error) {
          return error as Error;
        }
      };
      let error: Error | null = null;
      while (!error) error = await refused();
      assert(error instanceof DeviceError && error.message.includes("does not answer"), String(error));
    }
    await using model = await fastsafeOpen(path, { source: "3fs", lazy: true });
    assertTensor(await model.getTensor("t1"), tensors[1]!);
  }, { abandoned: true });
});

const CHILD = new URL("../children/usrbio_concurrent.ts", import.meta.url).pathname;

/** Runs a command in a new mount namespace, with a /dev/shm of so many bytes. */
async function runSmall(bytes: number, command: readonly string[], env: Record<string, string> = {}) {
  const mount = `mount -t tmpfs -o size=${bytes} none /dev/shm && exec "$@"`;
  const args = ["-m", "sh", "-c", mount, "sh", ...command];
  const { code, stdout, stderr } = await new Deno.Command("unshare", { args, env }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

async function whyNoMounts(): Promise<string | null> {
  try {
    const { code, stderr } = await runSmall(65_536, ["true"]);
    return code === 0 ? null : stderr.trim();
  } catch (error) {
    return (error as Error).message;
  }
}

const missing = machine.missing ?? await whyNoMounts();

suite("A small /dev/shm", "mounts", missing, () => {
  const { standIn } = machine;
  const remedy = "enlarge it (docker run --shm-size), or lower usrbio.bufferBytes";

  const cases = [[64 * MIB, ""], [4 * MIB, ""], [4 * MIB, "fill"], [640 * 1024, ""], [384 * 1024, ""], [
    65_536,
    "",
  ]];
  for (const [bytes, fill] of cases as [number, string][]) {
    const title = `a /dev/shm of ${bytes} bytes${fill && ", which another program fills,"} ends no process`;
    Deno.test(`${title} [3FS stand-in]`, async () => {
      const path = `${standIn.mount}/small.safetensors`;
      await writeFile(path, SPECS);
      try {
        const command = [Deno.execPath(), "run", "--allow-all", "--no-check", "--quiet", CHILD, path, fill];
        const env = { ...standInEnv(standIn.folder, standIn.mount), FASTSAFETENSORS_LIB: await buildShim() };
        const { code, stdout, stderr } = await runSmall(bytes, command, env);
        assertEquals(code, 0, `${stdout}${stderr}`);
        if (bytes >= 4 * MIB) assertEquals(stdout, "6 tensors\n");
        else assert(stdout === "6 tensors\n" || stdout.includes(remedy), stdout);
      } finally {
        await Deno.remove(path);
        for (const { name } of Deno.readDirSync(`${standIn.mount}/3fs-virt/iovs`)) {
          await Deno.remove(`${standIn.mount}/3fs-virt/iovs/${name}`); // of a killed child
        }
      }
    });
  }
});
