import {
  assert,
  assertEquals,
  assertNotEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { buildShim, builtPath, cacheFolder } from "../../ffi/build.ts";
import { EXPORTED_NAMES } from "../support/exported_names.ts";
import { compiler } from "../support/compiler.ts";
import { setEnv } from "../support/environment.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

/** Flags for a quick build. */
const FLAGS = ["-O0"];

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("builtPath() depends on the flags and the folder", async () => {
  const path = await builtPath({ folder: "/x" });
  assert(/^\/x\/libfastsafetensors-[0-9a-f]{24}\.so$/.test(path), path);
  assertEquals(await builtPath({ folder: "/x", flags: [] }), path);
  assertNotEquals(await builtPath({ folder: "/x", flags: ["-O0"] }), path);
  assertEquals(await builtPath({ folder: "/y" }), path.replace("/x", "/y"));
});

Deno.test("cacheFolder() is the user's folder, and throws without one", () => {
  const folderOf = (HOME: string | undefined, XDG_CACHE_HOME: string | undefined) => {
    using _ = setEnv({ HOME, XDG_CACHE_HOME });
    return cacheFolder();
  };
  assertEquals(folderOf("/home/x", "/cache"), "/cache/fastsafetensors");
  assertEquals(folderOf("/home/x", "relative"), "/home/x/.cache/fastsafetensors"); // as the standard says
  assertEquals(folderOf("/home/x", undefined), "/home/x/.cache/fastsafetensors");
  assertThrows(() => folderOf(undefined, undefined), Error, 'neither "XDG_CACHE_HOME" nor "HOME" is set');
});

const { missing } = await compiler();

suite("buildShim()", "native", missing, () => {
  Deno.test("buildShim() builds once, and leaves only the library and its lock", async () => {
    await using folder = await tempFolder();
    const options = { folder: `${folder.path}/deep/down`, flags: FLAGS };
    const path = await buildShim(options);
    assertEquals(path, await builtPath(options));
    const name = path.slice(path.lastIndexOf("/") + 1);
    assertEquals(names(options.folder), [name, `${name}.lock`]);
    const { mtime, ino } = await Deno.stat(path);
    assertEquals(await buildShim(options), path);
    const again = await Deno.stat(path);
    assertEquals([again.mtime, again.ino], [mtime, ino]);
  });

  Deno.test("the library exports only the functions that TypeScript calls", async () => {
    const { success, stdout } = await new Deno.Command("nm", {
      args: ["--dynamic", "--defined-only", "--just-symbols", await buildShim()],
    }).output();
    assert(success);
    const names = new TextDecoder().decode(stdout).trim().split("\n");
    // A library that counts its lines has names of the compiler as well.
    const own = names.filter((name) => !/^__gcov_|^mangle_path$/.test(name));
    assertEquals(own.sort(), EXPORTED_NAMES.toSorted());
  });

  Deno.test("buildShim() waits while another build holds the lock", async () => {
    await using folder = await tempFolder();
    const options = { folder: folder.path, flags: FLAGS };
    const path = await builtPath(options);
    const lock = await Deno.open(`${path}.lock`, { create: true, write: true });
    await lock.lock(true);
    const building = buildShim(options);
    await new Promise((resolve) => setTimeout(resolve, 200));
    assertEquals(names(folder.path).filter((name) => !name.endsWith(".lock")), []);
    await Deno.writeTextFile(path, "built by another"); // as the other build would
    await lock.unlock();
    lock.close();
    assertEquals(await building, path);
    assertEquals(await Deno.readTextFile(path), "built by another");
  });

  Deno.test("buildShim() reports the output of the compiler, and cleans up", async () => {
    await using folder = await tempFolder();
    const error = await assertRejects(
      () => buildShim({ folder: folder.path, flags: ["-include", "no_such_file.h"] }),
      Error,
    );
    assertStringIncludes(error.message, 'Cannot build the native library: "cc" ended with status 1:\n');
    assertStringIncludes(error.message, "no_such_file.h");
    assertEquals(names(folder.path).filter((name) => !name.endsWith(".lock")), []);
  });
});
