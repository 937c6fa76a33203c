import { assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { usePortableEngine } from "../support/engine.ts";
import { runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { localFileTests } from "./local_files.ts";

await usePortableEngine();
localFileTests("portable");

const { missing } = await compiler();
const library = missing ? null : await buildShim();

for (const engine of library ? ["portable", "native"] : ["portable"]) {
  Deno.test(`a link out of the folder with read permission is followed [${engine}]`, async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await Deno.mkdir(`${path}/blobs`);
    await Deno.mkdir(`${path}/snapshots/r`, { recursive: true });
    const [x] = await writeFile(`${path}/blobs/abc`, [{ name: "x", dtype: "U8", shape: [200_000] }]);
    await Deno.symlink("../../blobs/abc", `${path}/snapshots/r/model.safetensors`);
    const { code, stdout, stderr } = await runChild("read_linked.ts", {
      flags: [
        "--no-check",
        `--allow-read=${path}/snapshots`,
        ...engine === "native" ? [`--allow-ffi=${library}`, "--allow-env=FASTSAFETENSORS_LIB"] : [],
      ],
      args: [`${path}/snapshots/r/model.safetensors`],
      env: { FASTSAFETENSORS_LIB: library ?? "" },
    });
    assertEquals(code, 0, stderr);
    assertEquals(stdout.trim(), `${engine} 200000 ${x!.bytes.at(-1)}`);
  });
}
