/**
 * The choice between 3FS and ordinary reads: by options, environment and mount.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DeviceError, fastsafeOpen } from "../../mod.ts";
import { getBackend, getHf3fsLibPath, isAvailable } from "../../src/three_fs/mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { setEnv } from "../support/environment.ts";
import { assertTensor, type TensorSpec, writeFile } from "../support/models.ts";
import { use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();

const SPECS: TensorSpec[] = [{ name: "x", dtype: "F16", shape: [100_000] }];

/** Sets FASTSAFETENSORS_BACKEND until the result is disposed. */
function backend(name: string): Disposable {
  return setEnv({ FASTSAFETENSORS_BACKEND: name });
}

/** The path of a file's bytes, and the notes on it. */
async function wayOf(path: string, options: Parameters<typeof fastsafeOpen>[1] = {}) {
  await using model = await fastsafeOpen(path, options);
  await model.whenLoaded();
  const { path: way, notes } = model.stats();
  return { way, notes };
}

usrbioSuite("The choice of 3FS", machine, (test, standIn) => {
  test("one load reads files on a mount through 3FS, and other files without it", async (folder) => {
    const outside = await Deno.makeTempDir();
    try {
      const first = await writeFile(`${folder}/a.safetensors`, [{ ...SPECS[0]!, name: "a" }]);
      const second = await writeFile(`${outside}/b.safetensors`, [{ ...SPECS[0]!, name: "b", shape: [100] }]);
      await using model = await fastsafeOpen([`${folder}/a.safetensors`, `${outside}/b.safetensors`]);
      assertTensor(await model.getTensor("a"), first[0]!);
      assertTensor(await model.getTensor("b"), second[0]!);
      await model.whenLoaded();
      assertEquals([model.stats().path, model.stats().notes], ["3fs", []]);
      assertEquals(standIn.report().counts.bytes, 200_000);
    } finally {
      await Deno.remove(outside, { recursive: true });
    }
  });

  test('source: "file" uses ordinary reads, for every environment', async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const name of ["auto", "usrbio", "posix", "nonsense"]) {
      using _ = backend(name);
      assertEquals(await wayOf(path, { source: "file" }), { way: "buffered", notes: [] });
    }
  });

  test("FASTSAFETENSORS_BACKEND selects the backend, in upper or lower case", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (
      const [name, way, resolved] of [
        ["auto", "3fs", "usrbio"],
        ["usrbio", "3fs", "usrbio"],
        [" USRBIO ", "3fs", "usrbio"],
        ["", "3fs", "usrbio"],
        ["posix", "buffered", "posix"],
        ["mock", "buffered", "mock"],
      ] as const
    ) {
      using _ = backend(name);
      assertEquals(await wayOf(path), { way, notes: [] }, name);
      assertEquals(await getBackend(), resolved);
    }
  });

  test("FASTSAFETENSORS_BACKEND=usrbio requires 3FS", async () => {
    const path = await Deno.makeTempFile();
    try {
      await writeFile(path, SPECS);
      using _ = backend("usrbio");
      await assertRejects(() => fastsafeOpen(path), DeviceError, "it is not on 3FS");
    } finally {
      await Deno.remove(path);
    }
  });

  test("an invalid FASTSAFETENSORS_BACKEND is rejected with the valid values", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const name of ["cpp", "python", "3fs"]) {
      using _ = backend(name);
      for (const call of [() => fastsafeOpen(path), () => getBackend()]) {
        const message = `FASTSAFETENSORS_BACKEND must be "auto", "usrbio", "posix" or "mock", got "${name}"`;
        await assertRejects<Error>(call as () => Promise<unknown>, TypeError, message);
      }
    }
  });

  test('source: "3fs" notes a backend of ordinary reads', async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    for (const name of ["posix", "mock"]) {
      using _ = backend(name);
      const { way, notes } = await wayOf(path, { source: "3fs" });
      assertEquals([way, notes], [
        "buffered",
        [`Files on 3FS use ordinary reads: FASTSAFETENSORS_BACKEND is "${name}"`],
      ]);
    }
  });

  test("a relative path is resolved in the folder of the call, also if 3FS is refused", async (folder) => {
    await writeFile(`${folder}/model.safetensors`, SPECS);
    using _ = backend("posix");
    const before = Deno.cwd();
    Deno.chdir(folder);
    try {
      await using model = await fastsafeOpen("model.safetensors", { source: "3fs", lazy: true });
      Deno.chdir("/");
      const { shape } = await model.getSharded(SPECS[0]!.name, 0, { from: "file" });
      assertEquals(shape, SPECS[0]!.shape);
    } finally {
      Deno.chdir(before);
    }
  });

  test("only the given mount is used", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const named = (mountPoint: string) => ({ usrbio: { mountPoint } });
    assertEquals((await wayOf(path, named(standIn.mount))).way, "3fs");
    assertEquals((await wayOf(path, named(`${standIn.mount}//`))).way, "3fs");
    await Deno.symlink(standIn.mount, `${folder}/link`);
    assertEquals((await wayOf(path, named(`${folder}/link`))).way, "3fs");
    assertEquals(await wayOf(path, named("/mnt/other")), { way: "buffered", notes: [] });
    const error = await assertRejects(
      () => fastsafeOpen(path, { source: "3fs", ...named("/mnt/other") }),
      DeviceError,
    );
    assertStringIncludes(error.message, `it is on the mount "${standIn.mount}", not on "/mnt/other"`);
  });

  test("the other functions accept the same options", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, SPECS);
    await using loader = new SafeTensorsFileLoader(null, { source: "3fs", usrbio: { entries: 8 } });
    await loader.addFilenames({ 0: [path] });
    await using buffer = await loader.copyFilesToDevice();
    assertTensor(await buffer.getTensor("x"), x!);
    for await (const [, tensor] of new ParallelLoader(null, [path], { source: "3fs" }).iterateWeights()) {
      assertTensor(tensor, x!);
    }
    assertEquals(standIn.report().counts.bytes, 400_000);
    await assertRejects(
      () => new ParallelLoader(null, ["/proc/self/exe"], { source: "3fs" }).iterateWeights().next(),
      DeviceError,
    );
  });

  test('gds: "require" uses ordinary reads, which cuFile supports', async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    await assertRejects(
      () => fastsafeOpen(path, { device: "cuda", gds: "require", source: "3fs" }),
      TypeError,
      "cannot be used together",
    );
  });

  test("getHf3fsLibPath() returns the library's path", async () => {
    assertEquals(await getHf3fsLibPath(), `${standIn.folder}/libhf3fs_api_shared.so`);
    assert(await isAvailable());
  });
});
