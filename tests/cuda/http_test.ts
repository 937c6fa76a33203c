/**
 * Files on servers, loaded to a CUDA device by lanes through libcurl.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { DeviceError, fastsafeOpen, RemoteError } from "../../mod.ts";
import { encode } from "../support/floats.ts";
import { ETAG, FaultyServer } from "../support/faulty_server.ts";
import { fileOf } from "../support/models.ts";
import { missingCurl } from "../files/native_http_support.ts";
import { assertOnDevice, cudaSuite, toHost, useCuda } from "./support.ts";

const machine = await useCuda();
const missing = machine.missing ?? await missingCurl();

cudaSuite("files on servers to a device", { ...machine, missing }, (test) => {
  const numbers = Array.from({ length: 70_000 }, (_, index) => index % 251 - 125);
  const { bytes, tensors } = fileOf([
    { name: "a", dtype: "I32", shape: [900, 1300] },
    { name: "b", dtype: "F16", shape: [700, 100], bytes: encode(numbers, "F16") },
    { name: "c", dtype: "U8", shape: [6_000_001] },
  ]);

  test("a model on a server loads to a GPU", async () => {
    await using server = new FaultyServer({ "/m.safetensors": bytes });
    await using model = await fastsafeOpen(server.url("/m.safetensors"), { device: "cuda" });
    for (const expected of tensors) await assertOnDevice(await model.getTensor(expected.name), expected);
    await model.whenLoaded();
    assertEquals(model.stats().path, "http");
  });

  test("casts and slices of a model on a server are those of its file", async () => {
    await using server = new FaultyServer({ "/m.safetensors": bytes });
    const url = server.url("/m.safetensors");
    await using model = await fastsafeOpen(url, { device: "cuda", lazy: true });
    using cast = await model.getTensor("b", { dtype: "F32" });
    assertEquals((await toHost(cast)).data, new Float32Array(numbers));
    using part = await model.getSlice("b", [3, 5], [10, 12]);
    const expected = [310, 311, 410, 411].map((index) => numbers[index]!);
    assertEquals([...new Uint8Array((await toHost(part)).bytes)], [...encode(expected, "F16")]);
  });

  test("a load to a GPU fails after a change of its file, and after a cut it continues", async () => {
    await using server = new FaultyServer({ "/m.safetensors": bytes });
    const url = server.url("/m.safetensors");
    server.fault = ({ index }, usual) => index === 1 ? { ...usual, cutAfter: 1000 } : null;
    await using model = await fastsafeOpen(url, { device: "cuda", names: ["c"] });
    await assertOnDevice(await model.getTensor("c"), tensors[2]!);
    const opened = server.requests.length;
    server.fault = ({ index }) => index > opened ? { status: 412 } : null;
    await using changed = await fastsafeOpen(url, { device: "cuda", names: ["c"] });
    await assertRejects(() => changed.getTensor("c"), RemoteError, "the file was changed");
  });

  test("a file of a server that ignores ranges is not loaded to a GPU", async () => {
    const server = new FaultyServer(
      { "/m.safetensors": bytes },
      () => ({ headers: { etag: ETAG }, body: bytes }),
    );
    await using _server = server;
    await assertRejects(
      () => fastsafeOpen(server.url("/m.safetensors"), { device: "cuda" }),
      DeviceError,
      "its server ignores ranges",
    );
  });
});
