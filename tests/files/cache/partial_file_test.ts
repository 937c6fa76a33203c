import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { SafeTensorsError } from "../../../mod.ts";
import { SystemError } from "../../../ffi/files.ts";
import { PartialFile, type WholeFile } from "../../../src/files/native/cache/partial_file.ts";
import { tempFolder } from "../../support/models.ts";
import { contentOf, sha256Of } from "./content.ts";

const SIZE = 100_000;

interface Filled {
  readonly whole: WholeFile;
  readonly folder: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly notes: string[];
  open(fills?: boolean): Promise<PartialFile | null>;
}

async function filled(path: string, changes: Partial<WholeFile> = {}): Promise<Filled> {
  const bytes = contentOf(0, SIZE);
  const folder = `${path}/.fastsafetensors`;
  const notes: string[] = [];
  const whole: WholeFile = {
    folder,
    name: "blob",
    size: SIZE,
    sha256: await sha256Of(bytes),
    destination: `${path}/blob`,
    path: "hf://acme/tiny/model.safetensors",
    ...changes,
  };
  const open = (fills = true) =>
    PartialFile.open(whole, { fills, lanes: null, note: (note) => void notes.push(note) });
  return { whole, folder, bytes, notes, open };
}

async function write({ bytes }: Filled, file: PartialFile, start: number, stop: number): Promise<void> {
  await file.write(start, bytes.slice(start, stop));
}

async function names(folder: string): Promise<string[]> {
  return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
}

const isThere = (path: string) => Deno.stat(path).then(() => true, () => false);

Deno.test("a partial file gets its final name when all bytes are there", async () => {
  await using folder = await tempFolder();
  let placed = 0;
  const made = await filled(folder.path, { placed: () => Promise.resolve(void placed++) });
  const file = (await made.open())!;
  await write(made, file, 50_000, SIZE);
  assert(!file.has(0, SIZE) && file.has(50_000, 50_000));
  await write(made, file, 0, 50_000);
  await file.finish();
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
  assertEquals([placed, await names(made.folder), made.notes], [1, [], []]);
});

Deno.test("a partial file is never found under its final name, and is named so that nobody takes it for whole", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const file = (await made.open())!;
  await write(made, file, 0, SIZE - 1);
  await file.finish();
  assert(!await isThere(made.whole.destination));
  for (const name of await names(made.folder)) {
    assert(/^blob\.[0-9a-f]{16}\.(part|[0-9a-f]{16}\.map)$/.test(name));
  }
});

Deno.test("a later opening has the bytes of an abandoned partial file, and completes it", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  for (let at = 0; at < SIZE; at += 25_000) {
    const file = (await made.open())!;
    assert(file.has(0, at) && !file.has(at, 1));
    const target = new Uint8Array(at);
    await file.read(0, target);
    assertEquals(target, made.bytes.slice(0, at));
    await write(made, file, at, at + 25_000);
    if (at + 25_000 < SIZE) await file.abandon();
    else await file.finish();
  }
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
  assertEquals(await names(made.folder), []);
});

for (const locks of [true, false]) {
  Deno.test(`two processes complete one file together, ${locks ? "with" : "without"} locks`, async () => {
    await using folder = await tempFolder();
    const { tryLock } = Deno.FsFile.prototype;
    if (!locks) Deno.FsFile.prototype.tryLock = () => Promise.resolve(true);
    try {
      const made = await filled(folder.path);
      const first = (await made.open())!;
      await write(made, first, 0, 10);
      const second = (await made.open())!;
      await write(made, second, 50_000, SIZE);
      await write(made, first, 10, 50_000);
      await first.finish(); // its map and that of the second one have all bytes
      assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
      await write(made, second, 40_000, 50_000); // to a file that has its final name by now
      await second.finish();
      assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
      assertEquals([await names(made.folder), made.notes], [[], []]);
    } finally {
      Deno.FsFile.prototype.tryLock = tryLock;
    }
  });
}

Deno.test("two partial files of one file do not disturb each other", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const [first, second] = await Promise.all([made.open(), made.open()]);
  await write(made, first!, 0, SIZE);
  await write(made, second!, 0, 60_000);
  await first!.finish();
  await second!.finish();
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
  assertEquals([await names(made.folder), made.notes], [[], []]);
});

Deno.test("a file with another SHA-256 is not given its final name, and its bytes are removed", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path, { sha256: "0".repeat(64) });
  const file = (await made.open())!;
  await write(made, file, 0, SIZE);
  const error = await assertRejects(() => file.finish(), SafeTensorsError);
  assertEquals([error.code, error.path], ["ChecksumMismatch", "hf://acme/tiny/model.safetensors"]);
  assertEquals(
    error.message,
    `Cannot keep "hf://acme/tiny/model.safetensors" in the cache: SHA-256 ${"0".repeat(64)} expected, ` +
      `${await sha256Of(made.bytes)} found: its bytes were removed from the cache, fetch it again`,
  );
  assertEquals(await names(made.folder), []);
  assert(!await isThere(made.whole.destination));
});

Deno.test("without a known SHA-256 a file is whole when all its bytes are there", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path, { sha256: null });
  const file = (await made.open())!;
  await write(made, file, 0, SIZE);
  await file.finish();
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
});

Deno.test("an opening without filling reads what is there, and creates nothing", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  assertEquals(await made.open(false), null);
  assertEquals(await names(folder.path), []);
  const file = (await made.open())!;
  await write(made, file, 0, 10_000);
  await file.abandon();
  const before = await names(made.folder);
  const reader = (await made.open(false))!;
  assert(reader.has(0, 10_000) && !reader.has(0, 10_001));
  const target = new Uint8Array(10_000);
  await reader.read(0, target);
  assertEquals(target, made.bytes.slice(0, 10_000));
  await reader.finish();
  assertEquals(await names(made.folder), before);
});

Deno.test("a truncated map gives back fewer bytes, and never wrong ones", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const file = (await made.open())!;
  for (let at = 0; at < 10_000; at += 1000) await write(made, file, at, at + 1000);
  await file.abandon();
  const [map] = (await names(made.folder)).filter((name) => name.endsWith(".map"));
  const path = `${made.folder}/${map}`;
  const text = await Deno.readTextFile(path);
  const bytes: number[] = [];
  for (const length of [0, 10, text.indexOf("\n"), text.indexOf("5000 1000"), text.length - 1, text.length]) {
    await Deno.writeTextFile(path, text.slice(0, length));
    const reader = await made.open(false);
    bytes.push(
      Array.from(reader!.pieces(0, SIZE)).reduce(
        (sum, { start, stop, has }) => sum + (has ? stop - start : 0),
        0,
      ),
    );
    await reader!.finish();
  }
  assertEquals(bytes, [0, 0, 0, 5000, 9000, 10_000]);
});

Deno.test("a truncated partial file is not used", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const file = (await made.open())!;
  await write(made, file, 0, 90_000);
  await file.abandon();
  const [part] = (await names(made.folder)).filter((name) => name.endsWith(".part"));
  await Deno.truncate(`${made.folder}/${part}`, 80_000);
  const next = (await made.open())!;
  assert(!next.has(0, 1));
  await write(made, next, 0, SIZE);
  await next.finish();
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
});

Deno.test("other files in the folder are neither used nor removed", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const others = [
    "blob.incomplete",
    "blob.0123456789abcdef.part.bak",
    "other.0123456789abcdef.part",
    "notes.txt",
    `blob.0123456789abcdef.${"1".repeat(16)}.map.old`,
  ];
  await Deno.mkdir(made.folder);
  for (const name of others) await Deno.writeTextFile(`${made.folder}/${name}`, "mine");
  await Deno.mkdir(`${made.folder}/blob.fedcba9876543210.part`);
  // A map without its bytes, and one that lists bytes of a file with another size.
  const map = `blob.0123456789abcdef.${"1".repeat(16)}.map`;
  await Deno.writeTextFile(
    `${made.folder}/${map}`,
    `fastsafetensors map 1 size=${SIZE} boot=x\n0 ${SIZE}\nsynced 1\n`,
  );
  const file = (await made.open())!;
  assert(!file.has(0, 1));
  await write(made, file, 0, SIZE);
  await file.finish();
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
  assertEquals(await names(made.folder), [...others, "blob.fedcba9876543210.part"].sort());
});

Deno.test("bytes that another process completes meanwhile are used", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const file = (await made.open())!;
  await write(made, file, 0, 1000);
  const other = (await made.open())!;
  await write(made, other, 0, SIZE);
  await other.finish();
  const target = new Uint8Array(1000);
  await file.read(0, target); // by its descriptor, although the name has changed
  assertEquals(target, made.bytes.slice(0, 1000));
  await file.finish();
  assertEquals([await Deno.readFile(made.whole.destination), made.notes], [made.bytes, []]);
});

Deno.test("an error of the system ends the filling with a note, once", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  const file = (await made.open())!;
  await write(made, file, 0, 1000);
  file.stop(new SystemError(28)); // ENOSPC
  await write(made, file, 1000, SIZE);
  file.stop(new SystemError(30));
  assert(file.has(0, 1000) && !file.has(1000, 1));
  assertEquals(file.isFilled, false);
  await file.finish();
  assertEquals(made.notes.length, 1);
  assertStringIncludes(
    made.notes[0]!,
    'The cache of "hf://acme/tiny/model.safetensors" was not filled further',
  );
  assertStringIncludes(made.notes[0]!, "o space left on device");
  assert(!await isThere(made.whole.destination));
});

Deno.test("a destination with another size is replaced", async () => {
  await using folder = await tempFolder();
  const made = await filled(folder.path);
  await Deno.writeTextFile(made.whole.destination, "broken");
  const file = (await made.open())!;
  await write(made, file, 0, SIZE);
  await file.finish();
  assertEquals(await Deno.readFile(made.whole.destination), made.bytes);
});
