import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../../src/base/errors.ts";
import { readZipDirectory } from "../../src/pytorch/zip.ts";
import { type ArchiveOptions, concat, type EntryOptions, little, utf8, zip } from "./builders.ts";
import { memoryReader } from "./support.ts";

const A: EntryOptions = { name: "m/a", data: utf8("first") };
const B: EntryOptions = { name: "m/b", data: utf8("second one") };

async function refuse(bytes: Uint8Array, code: SafeTensorsErrorCode, ...parts: string[]): Promise<void> {
  const error = await assertRejects(() => readZipDirectory(memoryReader(bytes)), SafeTensorsError);
  assertEquals(error.code, code, error.message);
  for (const part of ["memory.pt", ...parts]) assertStringIncludes(error.message, part);
}

async function assertFinds(entries: EntryOptions[], options: ArchiveOptions = {}): Promise<void> {
  const bytes = zip(entries, options);
  const directory = await readZipDirectory(memoryReader(bytes));
  assertEquals([...directory.entries.keys()], entries.map(({ name }) => name));
  for (const { name, data } of entries) {
    const { dataStart, size } = directory.entries.get(name)!;
    assertEquals(bytes.slice(dataStart, dataStart + size), data);
    assertEquals(dataStart % 64, 0);
  }
}

Deno.test("readZipDirectory() finds the data of every entry", () => assertFinds([A, B]));

Deno.test("readZipDirectory() finds empty entries and folders", async () => {
  await assertFinds([{ name: "m/", data: new Uint8Array() }, { name: "m/e", data: new Uint8Array() }, A]);
});

Deno.test("readZipDirectory() reads zip64 entries and end records", async () => {
  await assertFinds([A, B], { zip64: true });
  await assertFinds([{ ...A, zip64: true }, { ...B, zip64: true }], { zip64: true });
});

Deno.test("readZipDirectory() accepts entries in any order, and a comment", async () => {
  const bytes = zip([A, B], { comment: utf8("a comment") });
  const { entries } = await readZipDirectory(memoryReader(bytes));
  assertEquals([...entries.keys()], ["m/a", "m/b"]);
});

Deno.test("readZipDirectory() accepts headers that repeat sizes and checksums", async () => {
  const local = { flags: 0x800, size: 5, crc: 0x5e1ec41b };
  await assertFinds([{ ...A, crc: 0x5e1ec41b, local }]);
});

Deno.test("readZipDirectory() passes all names to inspect before it checks entries", async () => {
  const seen: string[] = [];
  const inspect = (names: ReadonlySet<string>) => {
    seen.push(...names);
    throw new Error("known by its names");
  };
  const reader = memoryReader(zip([A, { ...B, method: 8 }]));
  await assertRejects(() => readZipDirectory(reader, { inspect }), Error, "known by its names");
  assertEquals(seen, ["m/a", "m/b"]);
});

Deno.test("readZipDirectory() rejects compression methods other than deflate", async () => {
  await refuse(zip([A, { ...B, method: 12 }]), "UnsupportedCheckpoint", '"m/b" is compressed with method 12');
});

Deno.test("readZipDirectory() rejects an entry whose header and directory have different methods", async () => {
  for (const entry of [{ ...A, local: { method: 8 } }, { ...A, method: 8, local: { method: 0 } }]) {
    await refuse(zip([entry]), "InvalidCheckpoint", 'header of entry "m/a"', "whether it is compressed");
  }
});

Deno.test("readZipDirectory() rejects an encrypted entry", async () => {
  await refuse(zip([{ ...A, flags: 0x809 }]), "UnsupportedCheckpoint", '"m/a" is encrypted');
  await refuse(zip([{ ...A, local: { flags: 0x809 } }]), "UnsupportedCheckpoint", '"m/a" is encrypted');
});

Deno.test("readZipDirectory() rejects unknown flags", async () => {
  await refuse(zip([{ ...A, flags: 0x2808 }]), "UnsupportedCheckpoint", "unknown zip flags 0x2000");
});

Deno.test("readZipDirectory() rejects two entries of one name", async () => {
  await refuse(zip([A, { ...B, name: "m/a" }]), "InvalidCheckpoint", 'two entries named "m/a"');
});

Deno.test("readZipDirectory() rejects a header with another name than the directory's", async () => {
  await refuse(zip([{ ...A, local: { name: "m/x" } }, B]), "InvalidCheckpoint", 'not that of entry "m/a"');
});

Deno.test("readZipDirectory() rejects a header whose size or checksum differs from the directory's", async () => {
  for (const local of [{ size: 6 }, { crc: 1 }, { flags: 0x800 }]) {
    await refuse(zip([{ ...A, local }]), "InvalidCheckpoint", 'header of entry "m/a"', "differ");
  }
});

Deno.test("readZipDirectory() rejects an entry without a header at its offset", async () => {
  await refuse(
    zip([{ ...A, local: { signature: 0x12345678 } }]),
    "InvalidCheckpoint",
    'no header of entry "m/a"',
  );
  await refuse(
    zip([{ ...A, localOffset: 1 }, B]),
    "InvalidCheckpoint",
    'no header of entry "m/a" at offset 1',
  );
});

Deno.test("readZipDirectory() rejects entries that overlap", async () => {
  await refuse(zip([{ ...A, size: 500 }, B]), "InvalidCheckpoint", '"m/a" reaches to offset');
  await refuse(zip([A, { ...B, name: "m/a2", localOffset: 0 }]), "InvalidCheckpoint", "reaches to offset");
});

Deno.test("readZipDirectory() rejects an entry that overlaps the directory or exceeds the file", async () => {
  await refuse(zip([A, { ...B, size: 200 }]), "InvalidCheckpoint", '"m/b" reaches to offset');
  await refuse(zip([A, { ...B, size: 2 ** 31 }]), "InvalidCheckpoint", '"m/b" reaches to offset');
  await refuse(
    zip([A, { ...B, size: 2 ** 53 - 1, zip64: true }]),
    "InvalidCheckpoint",
    '"m/b" reaches to offset',
  );
  await refuse(zip([{ ...A, localOffset: 2 ** 31 }]), "InvalidCheckpoint", '"m/a" reaches to offset');
});

Deno.test("readZipDirectory() rejects stored entries whose two sizes differ", async () => {
  await refuse(zip([{ ...A, packedSize: 4 }]), "InvalidCheckpoint", "stored as 4 bytes but claims 5");
});

Deno.test("readZipDirectory() rejects zip64 fields that are missing, short, or above 2^53", async () => {
  const sizes = (size: bigint) =>
    concat(little(1, 2), little(24, 2), little(size, 8), little(5, 8), little(0, 8));
  const short = concat(little(1, 2), little(8, 2), little(5, 8));
  const foreign = concat(little(2, 2), little(24, 2), new Uint8Array(24));
  for (const extra of [new Uint8Array(), short, foreign, sizes(2n ** 53n), sizes(2n ** 64n - 1n)]) {
    await refuse(zip([{ ...A, zip64: true, extra }]), "InvalidCheckpoint", 'zip64 field of entry "m/a"');
  }
});

Deno.test("readZipDirectory() rejects archives in several parts", async () => {
  await refuse(zip([A], { disk: 1 }), "UnsupportedCheckpoint", "in several parts");
  await refuse(zip([A], { entriesOnDisk: 0 }), "UnsupportedCheckpoint", "in several parts");
  await refuse(zip([{ ...A, disk: 1 }]), "UnsupportedCheckpoint", "in several parts");
  await refuse(zip([A], { zip64: true, end64: { disks: 2 } }), "UnsupportedCheckpoint", "in several parts");
});

Deno.test("readZipDirectory() rejects a count of entries that differs from the directory", async () => {
  await refuse(zip([A, B], { entries: 3 }), "InvalidCheckpoint", "does not hold the 3 entries");
  await refuse(zip([A, B], { entries: 1 }), "InvalidCheckpoint", "its 1 entries take");
});

Deno.test("readZipDirectory() rejects a directory that does not end at its end record", async () => {
  await refuse(zip([A], { gap: 1 }), "InvalidCheckpoint", "does not end at");
  await refuse(zip([A], { directoryOffset: 0 }), "InvalidCheckpoint", "does not end at");
  await refuse(zip([A], { directoryLength: 2 ** 31 }), "InvalidCheckpoint", "does not end at");
  await refuse(concat(utf8("PK\x03\x04 before"), zip([A])), "InvalidCheckpoint", "does not end at");
});

Deno.test("readZipDirectory() rejects zip64 end records at another offset, or with other values", async () => {
  const none = "no zip64 end record";
  await refuse(zip([A], { zip64: true, end64: { offset: 0 } }), "InvalidCheckpoint", none);
  await refuse(zip([A], { zip64: true, end64: { offset: 2 ** 60 } }), "InvalidCheckpoint", none);
  await refuse(zip([A], { zip64: true, end64: { signature: 1 } }), "InvalidCheckpoint", none);
  const bytes = zip([A], { zip64: true });
  bytes.set(little(7, 2), bytes.length - 12);
  bytes.set(little(7, 2), bytes.length - 14);
  await refuse(bytes, "InvalidCheckpoint", "end records of its zip archive differ");
});

Deno.test("readZipDirectory() rejects too many entries before it reads them", async () => {
  const reader = memoryReader(zip([A, B]));
  await assertRejects(() => readZipDirectory(reader, { maxEntries: 1 }), SafeTensorsError, "1 are allowed");
  const many = memoryReader(zip([A], { zip64: true, end64: { entries: 2 ** 40 } }));
  await assertRejects(() => readZipDirectory(many), SafeTensorsError, "1099511627776 entries");
});

Deno.test("readZipDirectory() rejects a directory with far more bytes than its entries need", async () => {
  const extra = concat(little(99, 2), little(5000, 2), new Uint8Array(5000));
  await refuse(zip([{ ...A, extra }]), "InvalidCheckpoint", "bytes for 1 entries");
});

Deno.test("readZipDirectory() rejects names that are not UTF-8", async () => {
  const bytes = zip([A]);
  const at = bytes.findLastIndex((byte, i) => byte === 0x61 && bytes[i - 1] === 0x2f);
  bytes[at] = 0xff;
  await refuse(bytes, "InvalidCheckpoint", "not UTF-8");
});

Deno.test("readZipDirectory() rejects an archive truncated at any byte", async () => {
  const bytes = zip([A, B], { zip64: true });
  for (let length = 0; length < bytes.length; length++) {
    await refuse(bytes.slice(0, length), "InvalidCheckpoint");
  }
});
