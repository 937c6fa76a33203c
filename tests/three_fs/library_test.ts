/**
 * The search for 3FS' library, each time in a separate process, since an open library stays open.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { type BuildOptions, buildShim } from "../../ffi/build.ts";
import { SOURCES } from "../../ffi/sources.ts";
import { runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { type TempFolder, tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { buildStandIn } from "../support/stand_in.ts";

const LIBRARY = "libhf3fs_api_shared.so";

const { path: cc } = await compiler();
const standIn = await buildStandIn("3fs");

interface Found {
  readonly path: string | null;
  readonly available: boolean;
  readonly backend: string;
  readonly error: { readonly name: string; readonly library: string; readonly message: string } | null;
}

/** Looks for the library with only these variables, besides a home folder. */
async function look(home: TempFolder, env: Record<string, string>, build?: BuildOptions): Promise<Found> {
  const { code, stdout, stderr } = await runChild("usrbio_library.ts", {
    flags: ["--allow-all", "--no-check"],
    args: [],
    env: {
      HOME: home.path,
      DENO_DIR,
      FASTSAFETENSORS_LIB: await buildShim(build),
      ...env,
    },
  });
  assertEquals([code, stderr], [0, ""]);
  return JSON.parse(stdout);
}

/** A limit that this machine may not have. */
const ABSURD_LIMIT = `
#include <sys/resource.h>

int __wrap_getrlimit(int resource, struct rlimit *limit);
int __wrap_getrlimit(int resource, struct rlimit *limit) {
  (void)resource;
  limit->rlim_cur = limit->rlim_max = ((rlim_t)1 << 26) + 1;
  return 0;
}
`;

const DENO_DIR = await Deno.makeTempDir({ prefix: "fastsafetensors-deno-" });
globalThis.addEventListener("unload", () => Deno.removeSync(DENO_DIR, { recursive: true }));

/** A folder with the stand-in under a given name. */
async function place(folder: string, name = LIBRARY): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.copyFile(`${standIn.folder}/${LIBRARY}`, `${folder}/${name}`);
  return `${folder}/${name}`;
}

suite("Finding 3FS' library", "native", standIn.missing, () => {
  Deno.test("the library is searched in HF3FS_LIB_DIR, LD_LIBRARY_PATH and pip's folders, in that order", async () => {
    await using home = await tempFolder();
    const named = await place(`${home.path}/named`);
    const loader = await place(`${home.path}/loader`, `${LIBRARY}.1`);
    const wheel = await place(
      `${home.path}/.local/lib/python3.12/site-packages/hf3fs_py_usrbio.libs`,
      "libhf3fs_api_shared-0a1b2c.so",
    );
    const environment = await place(
      `${home.path}/venv/lib/python3.11/site-packages/hf3fs_py_usrbio.libs`,
      "libhf3fs_api_shared-0a1b2c.so",
    );
    const HF3FS_LIB_DIR = `${home.path}/named`;
    const LD_LIBRARY_PATH = `/nowhere::${home.path}:${home.path}/loader`;
    const VIRTUAL_ENV = `${home.path}/venv`;
    assertEquals((await look(home, { HF3FS_LIB_DIR, LD_LIBRARY_PATH, VIRTUAL_ENV })).path, named);
    assertEquals((await look(home, { HF3FS_LIB_DIR: "/nowhere", LD_LIBRARY_PATH })).path, loader);
    assertEquals((await look(home, { LD_LIBRARY_PATH: "", VIRTUAL_ENV })).path, environment);
    const found = await look(home, {});
    assertEquals(found, { path: wheel, available: true, backend: "usrbio", error: null });
  });

  Deno.test("a missing library is reported with all searched places", async () => {
    await using home = await tempFolder();
    const { path, available, backend, error } = await look(home, {
      HF3FS_LIB_DIR: "/nowhere/named",
      LD_LIBRARY_PATH: "/nowhere/one:/nowhere/two",
      CONDA_PREFIX: "/nowhere/conda",
    });
    assertEquals([path, available, backend], [null, false, "posix"]);
    assertEquals([error!.name, error!.library], ["DeviceError", "hf3fs"]);
    for (
      const place of [
        '"/nowhere/named"',
        '"/nowhere/one"',
        '"/nowhere/two"',
        '"/nowhere/conda/lib/python3*/site-packages/hf3fs_py_usrbio.libs"',
        `"${home.path}/.local/lib/python3*/site-packages/hf3fs_py_usrbio.libs"`,
        "HF3FS_LIB_DIR can name its folder",
      ]
    ) assertStringIncludes(error!.message, place);
  });

  Deno.test("a library that cannot be opened is skipped and reported with the reason", async () => {
    await using home = await tempFolder();
    await Deno.writeTextFile(`${home.path}/${LIBRARY}`, "no library");
    const { path, error } = await look(home, { HF3FS_LIB_DIR: home.path });
    assertEquals(path, null);
    assertMatch(error!.message, /\(.*libhf3fs_api_shared\.so: (file too short|invalid ELF header)\)/);
    const good = await place(`${home.path}/good`);
    assertEquals(
      (await look(home, { HF3FS_LIB_DIR: home.path, LD_LIBRARY_PATH: `${home.path}/good` })).path,
      good,
    );
  });

  Deno.test("a library without a function is rejected with the function's name", async () => {
    await using home = await tempFolder();
    const source = `${home.path}/few.c`;
    await Deno.writeTextFile(source, "int hf3fs_is_hf3fs(int fd) { return fd; }\n");
    const built = await new Deno.Command(cc, {
      args: ["-shared", "-fPIC", "-o", `${home.path}/${LIBRARY}`, source],
    }).output();
    assert(built.success);
    const { path, available, error } = await look(home, { HF3FS_LIB_DIR: home.path });
    assertEquals([path, available], [null, false]);
    assertStringIncludes(
      error!.message,
      `"${home.path}/${LIBRARY}" has no function hf3fs_extract_mount_point`,
    );
  });

  Deno.test("the library is not loaded if the hard limit of open files makes its table too large", async () => {
    await using home = await tempFolder();
    // With the real library the system would end the process; the stand-in reports it instead.
    const env = { HF3FS_LIB_DIR: standIn.folder, FST_SIM_3FS_TABLE: "100" };
    const { path, error } = await look(home, env, {
      flags: ["-Wl,--wrap=getrlimit"],
      sources: { ...SOURCES, "limit.c": ABSURD_LIMIT },
    });
    assertEquals(path, null);
    assertMatch(
      error!.message,
      /16 bytes for each of the 67108865 files .* lower it with "ulimit -Hn 1048576"/,
    );
  });
});
