/**
 * Processes that end with work on a device.
 */
import { assert, assertEquals } from "@std/assert";
import { exists } from "../support/skip.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { standInEnv, standInSuite, useCuda } from "./support.ts";

const machine = await useCuda();
const CHILD = new URL("../children/cuda_leave.ts", import.meta.url).pathname;

standInSuite("Processes that end with work on a CUDA stand-in", machine, (_test, standIns) => {
  for (const way of ["loading", "loaded", "exit", "throw", "released", "released, exit"]) {
    Deno.test(`a process can end without close(): ${way} [CUDA stand-in]`, async () => {
      await using folder = await tempFolder();
      const path = `${folder.path}/model.safetensors`;
      const report = `${folder.path}/report`;
      await writeFile(path, [{ name: "x", dtype: "F32", shape: [2048, 1024] }]);
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--quiet", CHILD, path, way],
        env: {
          NO_COLOR: "1",
          ...standInEnv(standIns.folder),
          FST_SIM_REPORT: report,
          FST_SIM_DELAY_US: way.startsWith("released") ? "100000" : "500",
        },
        stdin: "null",
        signal: AbortSignal.timeout(60_000),
      });
      const { code, signal, stderr } = await child.output();
      const printed = new TextDecoder().decode(stderr);
      assertEquals(way === "throw" ? "" : printed, "", "it ends quietly");
      assertEquals([code, signal], [way.endsWith("exit") ? 3 : way === "throw" ? 1 : 0, null], printed);
      assert(exists(report), "the stand-in's library did not come to its end");
      const { violations } = JSON.parse(await Deno.readTextFile(report));
      assertEquals(violations, { total: 0, kinds: {} });
    });
  }
});
