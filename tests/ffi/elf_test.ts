import { assertEquals } from "@std/assert";
import { obstacles } from "../../native/tools/elf.ts";

/** The relevant part of readelf's output about a library. */
function printed(machine: string, needed: readonly string[], versions: readonly string[]): string {
  return [
    "ELF Header:",
    "  Class:                             ELF64",
    `  Machine:                           ${machine}`,
    "",
    "Dynamic section at offset 0x2dd0 contains 27 entries:",
    "  Tag        Type                         Name/Value",
    ...needed.map((name) => ` 0x0000000000000001 (NEEDED)             Shared library: [${name}]`),
    "",
    "Version definition section '.gnu.version_d' contains 1 entry:",
    "  000000: Rev: 1  Flags: BASE  Index: 1  Cnt: 1  Name: shim.so",
    "",
    `Version needs section '.gnu.version_r' contains 1 entry:`,
    ` Addr: 0x0000000000000d50  Offset: 0x00000d50  Link: 4 (.dynstr)`,
    `  000000: Version: 1  File: libc.so.6  Cnt: ${versions.length}`,
    ...versions.map((name, index) => `  0x00${index}0:   Name: ${name}  Flags: none  Version: ${index + 2}`),
  ].join("\n");
}

const X86 = "Advanced Micro Devices X86-64";
const GLIBC = ["libpthread.so.0", "libdl.so.2", "libc.so.6"];

Deno.test("obstacles() returns no obstacle for a library for glibc 2.17", () => {
  const versions = ["GLIBC_2.2.5", "GLIBC_2.3.4", "GLIBC_2.14", "GLIBC_2.17"];
  assertEquals(obstacles(printed(X86, GLIBC, versions), "linux-x86_64"), []);
  assertEquals(obstacles(printed("AArch64", ["libc.so.6"], ["GLIBC_2.17"]), "linux-aarch64"), []);
});

Deno.test("obstacles() names newer functions, other libraries and other processors", () => {
  assertEquals(
    obstacles(
      printed(X86, [...GLIBC, "libgcc_s.so.1"], [
        "GLIBC_2.2.5",
        "GLIBC_2.17.1",
        "GLIBC_2.34",
        "GLIBC_3",
        "GCC_3.0",
      ]),
      "linux-x86_64",
    ),
    [
      'it needs "libgcc_s.so.1"',
      "it needs version GLIBC_2.17.1",
      "it needs version GLIBC_2.34",
      "it needs version GLIBC_3",
      "it needs version GCC_3.0",
    ],
  );
  assertEquals(obstacles(printed("AArch64", GLIBC, []), "linux-x86_64"), [
    `it is for "AArch64", not for "${X86}"`,
  ]);
  assertEquals(obstacles("", "linux-aarch64"), ['it is for "undefined", not for "AArch64"']);
});
