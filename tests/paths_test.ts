import { assertEquals, assertThrows } from "@std/assert";
import { POSIX, WINDOWS } from "../src/base/paths.ts";

Deno.test("POSIX paths keep a backslash as a part of a name", () => {
  for (
    const [path, folder, name] of [
      ["model.safetensors", ".", "model.safetensors"],
      ["./a/b", "./a", "b"],
      ["/a", "/", "a"],
      ["/a/b", "/a", "b"],
      ["a/b/", "a", "b"],
      ["a//b", "a", "b"],
      ["C:\\models\\a", ".", "C:\\models\\a"],
      ["/m/a\\b", "/m", "a\\b"],
    ] as const
  ) assertEquals([POSIX.dirname(path), POSIX.basename(path)], [folder, name], path);
  assertEquals(POSIX.join("/", "a"), "/a");
  assertEquals(POSIX.join("a/../b", "c\\d"), "a/../b/c\\d");
  assertEquals(POSIX.resolve("/m", "/a/../b"), "/a/../b");
  assertEquals(POSIX.resolve("/m", "link/../a\\b"), "/m/link/../a\\b");
});

Deno.test("Windows paths have drives, hosts and two kinds of slashes", () => {
  for (
    const [path, folder, name] of [
      ["C:\\models\\model.safetensors", "C:/models", "model.safetensors"],
      ["C:/models/model.safetensors", "C:/models", "model.safetensors"],
      ["models\\a", "models", "a"],
      ["\\\\server\\share\\a", "//server/share", "a"],
      ["model.safetensors", ".", "model.safetensors"],
      ["C:\\a", "C:/", "a"],
      ["d:/a/", "d:/", "a"],
      ["/a", "/", "a"],
    ] as const
  ) assertEquals([WINDOWS.dirname(path), WINDOWS.basename(path)], [folder, name], path);
  assertEquals(WINDOWS.join("C:\\models", "sub/a.safetensors"), "C:/models/sub/a.safetensors");
  assertEquals(WINDOWS.resolve("C:\\models", "D:\\a"), "D:/a");
  assertEquals(WINDOWS.resolve("C:\\models", "sub\\a"), "C:/models/sub/a");
  assertEquals(WINDOWS.resolve("C:\\models", "\\a"), "C:/a");
  assertEquals(WINDOWS.resolve("C:\\models", "\\\\server\\share"), "//server/share");
});

Deno.test("fromFileUrl() returns the path of a URL", () => {
  for (
    const [href, posix, windows] of [
      ["file:///models/a%20b.safetensors", "/models/a b.safetensors", "/models/a b.safetensors"],
      ["file:///models/100%.safetensors", "/models/100%.safetensors", "/models/100%.safetensors"],
      ["file:///C:/models/a.safetensors", "/C:/models/a.safetensors", "C:/models/a.safetensors"],
      ["file://localhost/a", "/a", "/a"],
    ] as const
  ) {
    const url = new URL(href);
    assertEquals([POSIX.fromFileUrl(url), WINDOWS.fromFileUrl(url)], [posix, windows], href);
  }
  const share = new URL("file://fileserver/models/a.safetensors");
  assertThrows(() => POSIX.fromFileUrl(share), TypeError, "a file: URL with a host");
  assertEquals(WINDOWS.fromFileUrl(share), "//fileserver/models/a.safetensors");
  for (const { fromFileUrl } of [POSIX, WINDOWS]) {
    assertThrows(() => fromFileUrl(new URL("file:///%ff.safetensors")), TypeError, "not UTF-8");
  }
});
