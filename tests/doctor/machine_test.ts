import { assertEquals } from "@std/assert";
import { parseHugePages, parseLockedMemory, parseMounts } from "../../src/doctor/machine.ts";
import { mountOf } from "../../src/doctor/storage.ts";

const MOUNTS = String.raw`overlay / overlay rw,relatime,lowerdir=/a:/b 0 0
proc /proc proc rw,nosuid 0 0
shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k 0 0
/dev/sda1 /models ext4 rw 0 0
fuse.hf3fs /models/3fs fuse.hf3fs rw,size=1 0 0
tmpfs /big tmpfs rw,size=2g,inode64 0 0
tmpfs /bare tmpfs rw,size=4096 0 0
tmpfs /all tmpfs rw,mysize=5k 0 0
nfs:/x /with\040space nfs4 rw 0 0
/dev/sdb1 /models xfs rw 0 0
`;

Deno.test("parseMounts() finds folders, types and sizes", () => {
  const mounts = parseMounts(MOUNTS);
  assertEquals(mounts.length, 10);
  assertEquals(mounts[2], { folder: "/dev/shm", type: "tmpfs", size: 64 * 2 ** 20 });
  assertEquals(mounts.slice(5, 8).map(({ size }) => size), [2 ** 31, 4096, null]);
  assertEquals(mounts[8], { folder: "/with space", type: "nfs4", size: null });
  assertEquals(parseMounts(""), []);
});

Deno.test("mountOf() returns the innermost mount, and the last one at a mount point", () => {
  const mounts = parseMounts(MOUNTS);
  const paths = ["/models", "/models/llama/a", "/models/3fs/x", "/models2", "/with space/x", "/"];
  assertEquals(
    paths.map((path) => mountOf(path, mounts)?.type),
    ["xfs", "xfs", "fuse.hf3fs", "overlay", "nfs4", "overlay"],
  );
  assertEquals(mountOf("/x", []), undefined);
});

Deno.test("parseLockedMemory() returns the soft limit", () => {
  const line = (soft: string) =>
    `Limit                     Soft Limit           Hard Limit           Units
Max processes             1                    2                    processes
Max locked memory         ${soft}                unlimited            bytes
`;
  assertEquals(parseLockedMemory(line("65536")), 65536);
  assertEquals([parseLockedMemory(line("unlimited")), parseLockedMemory("")], [null, null]);
});

Deno.test("parseHugePages() returns the value in brackets", () => {
  assertEquals(
    ["always [madvise] never\n", "always madvise [never]\n", "[always] madvise never", "", "[else]"].map(
      parseHugePages,
    ),
    ["madvise", "never", "always", null, null],
  );
});
