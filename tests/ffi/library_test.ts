/**
 * Finds the library as a new user does, in a separate process that uses a copy of the package with an empty cache
 * folder and an empty PATH.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { buildShim, recipeHash } from "../../ffi/build.ts";
import { sha256 } from "../../src/base/sha256.ts";
import { pack, type PrebuiltLibrary } from "../../ffi/prebuilt.ts";
import { type ChildOptions, privileged, runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder, writeFile } from "../support/models.ts";
import { suite } from "../support/skip.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const PLATFORM = `${Deno.build.os}-${Deno.build.arch}`;
const NO_COMPILER = 'Cannot build the native library: there is no C compiler "cc" on the PATH';

const PROGRAM = `
import { openLibrary } from "./ffi/library.ts";
const { shim, ...rest } = await openLibrary();
console.log(JSON.stringify({ native: shim !== null, ...rest }));
`;

const LOAD = `
import { fastsafeOpen } from "./mod.ts";
await using model = await fastsafeOpen(Deno.args[0]);
const { shape } = await model.getTensor("x");
await model.whenLoaded();
console.log(JSON.stringify([shape, model.stats().path]));
`;

/** The output of {@linkcode PROGRAM}. */
interface Found {
  readonly native: boolean;
  readonly path?: string;
  readonly reason?: string;
}

/** A copy of the package, with an empty cache folder, in its own folder. */
class Package implements AsyncDisposable {
  readonly home: string;
  readonly cache: string;
  /** A folder with a `cc` that copies `$BUILT` as its output. */
  readonly bin: string;
  readonly #folder: { readonly path: string } & AsyncDisposable;

  constructor(folder: { readonly path: string } & AsyncDisposable) {
    this.#folder = folder;
    this.home = `${folder.path}/home`;
    this.cache = `${this.home}/.cache/fastsafetensors`;
    this.bin = `${folder.path}/bin`;
  }

  static async create(): Promise<Package> {
    const made = new Package(await tempFolder());
    for (const name of ["mod.ts", "src", "ffi", "native"]) await copy(`${ROOT}${name}`, made.at(name));
    await Deno.writeTextFile(made.at("deno.json"), "{}"); // users do not have ours
    await Deno.mkdir(made.home);
    await Deno.mkdir(made.bin);
    await Deno.writeTextFile(made.at("program.ts"), PROGRAM);
    await Deno.writeTextFile(made.at("load.ts"), LOAD);
    await Deno.writeTextFile(
      `${made.bin}/cc`,
      // It ignores the sources, and links the library that was built before.
      '#!/bin/sh\n[ "$1" = -std=gnu11 ] || exit 9\ncase "$*" in *" -c "*) ;; *) /bin/cp "$BUILT" shim.so ;; esac\n',
      {
        mode: 0o755,
      },
    );
    return made;
  }

  at(name: string): string {
    return `${this.#folder.path}/${name}`;
  }

  /** Adds a library as in a release. */
  async carry(bytes: Uint8Array<ArrayBuffer>, changes: Partial<PrebuiltLibrary> = {}): Promise<void> {
    const library = {
      size: bytes.byteLength,
      sha256: await sha256(bytes),
      recipe: await recipeHash(),
      ...changes,
    };
    await Deno.mkdir(this.at("native/prebuilt"), { recursive: true });
    await Deno.writeTextFile(
      this.at("native/prebuilt/manifest.json"),
      JSON.stringify({ [PLATFORM]: library }),
    );
    await Deno.writeTextFile(this.at(`native/prebuilt/${PLATFORM}.txt`), await pack(bytes));
  }

  async run(name: string, args: readonly string[], options: Partial<ChildOptions> = {}) {
    const { code, stdout, stderr } = await runChild(this.at(name), {
      flags: ["--allow-all", "--no-check"],
      args,
      ...options,
      env: { HOME: this.home, DENO_DIR, PATH: "/nowhere", ...options.env },
    });
    assertEquals(code, 0, stderr);
    return { value: JSON.parse(stdout), stderr };
  }

  async find(options: Partial<ChildOptions> = {}): Promise<Found> {
    return (await this.run("program.ts", [], options)).value;
  }

  /** The files in the cache folder. */
  cached(): string[] {
    return [...Deno.readDirSync(this.cache)].map(({ name }) => name).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}

/** Copies a file or folder, without libraries built there. */
async function copy(from: string, to: string): Promise<void> {
  if (!(await Deno.stat(from)).isDirectory) return await Deno.copyFile(from, to);
  await Deno.mkdir(to);
  for await (const { name } of Deno.readDir(from)) {
    if (name !== "prebuilt" && name !== "build") await copy(`${from}/${name}`, `${to}/${name}`);
  }
}

const DENO_DIR = Deno.makeTempDirSync({ prefix: "fastsafetensors-deno-" });
globalThis.addEventListener("unload", () => Deno.removeSync(DENO_DIR, { recursive: true }));

const { missing } = await compiler();
const BUILT = missing === null ? await buildShim() : "";
const BYTES = missing === null ? await Deno.readFile(BUILT) : new Uint8Array();
const NAME = `libfastsafetensors-${(await sha256(BYTES)).slice(0, 24)}-prebuilt.so`;

suite("Finding the library", "native", missing, () => {
  Deno.test("a release needs no compiler: the library is unpacked once, for others to read", async () => {
    await using copy = await Package.create();
    await copy.carry(BYTES);
    const path = `${copy.cache}/${NAME}`;
    assertEquals(await copy.find(), { native: true, path });
    assertEquals(copy.cached(), [NAME]);
    assertEquals(await Deno.readFile(path), BYTES);
    const { mode, mtime, ino } = await Deno.stat(path);
    assertEquals(mode! & 0o777, 0o644);
    assertEquals(await copy.find(), { native: true, path });
    const again = await Deno.stat(path);
    assertEquals([again.mtime, again.ino], [mtime, ino]);

    await writeFile(copy.at("x.safetensors"), [{ name: "x", dtype: "U8", shape: [3, 5] }]);
    const { value, stderr } = await copy.run("load.ts", [copy.at("x.safetensors")]);
    assertEquals([value, stderr], [[[3, 5], "buffered"], ""]);
  });

  Deno.test("without a compiler and without a release, the portable engine loads and says so once", async () => {
    await using copy = await Package.create();
    assertEquals(await copy.find(), { native: false, reason: NO_COMPILER });
    await writeFile(copy.at("x.safetensors"), [{ name: "x", dtype: "U8", shape: [3, 5] }]);
    const { value, stderr } = await copy.run("load.ts", [copy.at("x.safetensors")]);
    assertEquals(value, [[3, 5], "portable"]);
    assertEquals(stderr, `fastsafetensors: Portable engine, slower than the native one: ${NO_COMPILER}\n`);
  });

  Deno.test("a release needs no compiler also if it is imported from a server", async () => {
    await using copy = await Package.create();
    const send = async (request: Request) => {
      const path = copy.at(new URL(request.url).pathname.slice(1));
      const type = path.endsWith(".ts") ? "application/typescript" : "text/plain";
      try {
        return new Response(await Deno.readFile(path), { headers: { "content-type": type } });
      } catch {
        return new Response(null, { status: 404 });
      }
    };
    await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, send);
    const url = `http://127.0.0.1:${server.addr.port}/ffi/library.ts`;
    await Deno.writeTextFile(copy.at("program.ts"), PROGRAM.replace("./ffi/library.ts", url));
    const reload = { flags: ["--allow-all", "--no-check", "--reload"] };
    assertEquals(await copy.find(reload), { native: false, reason: NO_COMPILER });
    await copy.carry(BYTES);
    assertEquals(await copy.find(reload), { native: true, path: `${copy.cache}/${NAME}` });
  });

  Deno.test("FASTSAFETENSORS_LIB is preferred to the library of a release", async () => {
    await using copy = await Package.create();
    await copy.carry(BYTES);
    const named = copy.at("named.so");
    await Deno.writeFile(named, BYTES);
    assertEquals(await copy.find({ env: { FASTSAFETENSORS_LIB: named } }), { native: true, path: named });
    assertEquals([...Deno.readDirSync(copy.home)], []);
  });

  Deno.test("the library of a release is preferred to a compiler, and a compiler to the portable engine", async () => {
    await using copy = await Package.create();
    const env = { PATH: copy.bin, BUILT };
    const built = (await copy.find({ env })).path!;
    assert(/\/libfastsafetensors-[0-9a-f]{24}\.so$/.test(built), built);
    assertEquals(await copy.find(), { native: true, path: built }, "a build is kept");
    await copy.carry(BYTES);
    assertEquals(await copy.find({ env }), { native: true, path: `${copy.cache}/${NAME}` });
  });

  Deno.test("a library of other sources is not used", async () => {
    await using copy = await Package.create();
    await copy.carry(BYTES, { recipe: await recipeHash(["-DOTHER"]) });
    assertEquals(await copy.find(), { native: false, reason: NO_COMPILER });
    assertEquals(copy.cached().filter((name) => !name.endsWith(".lock")), []);
  });

  Deno.test("a damaged library in the cache folder is replaced", async () => {
    await using copy = await Package.create();
    await copy.carry(BYTES);
    const path = `${copy.cache}/${NAME}`;
    await Deno.mkdir(copy.cache, { recursive: true });
    for (
      const damaged of [
        new Uint8Array(),
        BYTES.subarray(0, 5000),
        BYTES.map((byte, at) => at === 9000 ? ~byte : byte),
      ]
    ) {
      await Deno.writeFile(path, damaged);
      assertEquals(await copy.find(), { native: true, path });
      assertEquals(await Deno.readFile(path), BYTES);
    }
    assertEquals(copy.cached(), [NAME]);
  });

  Deno.test("a damaged package is reported, and a compiler used instead", async () => {
    await using copy = await Package.create();
    const text = copy.at(`native/prebuilt/${PLATFORM}.txt`),
      manifest = copy.at("native/prebuilt/manifest.json");
    const damages: readonly (readonly [damage: () => Promise<void>, told: string])[] = [
      [
        () => copy.carry(BYTES, { sha256: "0".repeat(64) }),
        `${BYTES.byteLength} bytes with SHA-256 ${await sha256(BYTES)}`,
      ],
      [async () => await Deno.writeTextFile(text, (await Deno.readTextFile(text)).slice(0, 4000)), ""],
      [() => Deno.writeTextFile(text, "no base64!"), ""],
      [() => Deno.writeTextFile(manifest, "{"), ""],
    ];
    for (const [damage, told] of damages) {
      await copy.carry(BYTES);
      await damage();
      const { native, reason } = await copy.find();
      assertEquals(native, false);
      assertStringIncludes(
        reason!,
        `Cannot unpack the prebuilt library: the package is damaged, get it again with "--reload": ${told}`,
      );
      assert(reason!.endsWith(`; ${NO_COMPILER}`), reason);
    }
    const { path } = await copy.find({ env: { PATH: copy.bin, BUILT } });
    assert(/-[0-9a-f]{24}\.so$/.test(path!), path);
    assertEquals(copy.cached().filter((name) => !path!.startsWith(`${copy.cache}/${name.slice(0, 43)}`)), []);
  });

  Deno.test("a library for another processor, or with another interface, is skipped", async () => {
    await using copy = await Package.create();
    const AARCH64 = 183, X86_64 = 62; // e_machine of the ELF header, at byte 18
    const other = BYTES.slice();
    assert(other[18] === X86_64 || other[18] === AARCH64);
    other[18] = other[18] === X86_64 ? AARCH64 : X86_64;
    await copy.carry(other);
    const { native, reason } = await copy.find();
    assertEquals(native, false);
    assert(reason!.includes("-prebuilt.so") && reason!.endsWith(`; ${NO_COMPILER}`), reason);
    const { path } = await copy.find({ env: { PATH: copy.bin, BUILT } });
    assert(/-[0-9a-f]{24}\.so$/.test(path!), path);
  });

  Deno.test("processes that unpack at once do not disturb each other", async () => {
    await using copy = await Package.create();
    await copy.carry(BYTES);
    const found = await Promise.all(Array.from({ length: 6 }, () => copy.find()));
    for (const one of found) assertEquals(one, { native: true, path: `${copy.cache}/${NAME}` });
    assertEquals(copy.cached(), [NAME]);
  });

  suite("A cache folder that cannot be written", "unprivileged", privileged(), () => {
    Deno.test("a cache folder that cannot be written is reported, and used if it has the library", async () => {
      await using copy = await Package.create();
      await copy.carry(BYTES);
      await Deno.mkdir(copy.cache, { recursive: true });
      await Deno.chmod(copy.cache, 0o555);
      const { native, reason } = await copy.find({ unprivileged: true });
      assertEquals(native, false);
      assertStringIncludes(reason!, "Cannot unpack the prebuilt library: Permission denied");
      assertStringIncludes(reason!, 'set "XDG_CACHE_HOME" to a folder for it');
      const elsewhere = { XDG_CACHE_HOME: copy.at("elsewhere") };
      assertEquals(await copy.find({ unprivileged: true, env: elsewhere }), {
        native: true,
        path: `${copy.at("elsewhere")}/fastsafetensors/${NAME}`,
      });
      await Deno.chmod(copy.cache, 0o755);
      await copy.find();
      await Deno.chmod(copy.cache, 0o555);
      assertEquals(await copy.find({ unprivileged: true }), { native: true, path: `${copy.cache}/${NAME}` });
      await Deno.chmod(copy.cache, 0o755);
    });
  });
});
