/**
 * In a Worker, passes a tensor to a consumer; ends the Worker, and reads the tensor as the consumer would; prints its
 * bytes. Argument: a path for the model.
 */
import { fastsafeOpen, serialize } from "../../mod.ts";

const BYTES = 64 * 2 ** 20;

if ("WorkerGlobalScope" in globalThis) {
  const worker = globalThis as unknown as {
    onmessage: (event: MessageEvent) => void;
    postMessage(data: unknown): void;
  };
  worker.onmessage = async ({ data }) => {
    await using model = await fastsafeOpen(data);
    const tensor = await model.getTensor("w");
    worker.postMessage([await tensor.toDLPack(), await tensor.toDLPack({ versioned: true })]);
  };
} else {
  const path = Deno.args[0]!;
  const data = new Uint8Array(BYTES).fill(9);
  await Deno.writeFile(path, serialize({ w: { dtype: "U8", shape: [BYTES], data } }));
  const worker = new Worker(import.meta.url, { type: "module" });
  const given = await new Promise<[bigint, bigint]>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.postMessage(path);
  });
  worker.terminate();
  await new Promise((resolve) => setTimeout(resolve, 500)); // its memory is freed soon after
  given.forEach((address, versioned) => {
    const managed = new Deno.UnsafePointerView(Deno.UnsafePointer.create(address)!);
    const tensor = versioned ? 32 : 0; // the offset in DLManagedTensorVersioned
    const first = managed.getBigUint64(tensor);
    const view = new Deno.UnsafePointerView(Deno.UnsafePointer.create(first)!);
    const shape = new Deno.UnsafePointerView(Deno.UnsafePointer.create(managed.getBigUint64(tensor + 24))!);
    console.log(Number(first % 64n), Number(shape.getBigInt64()), view.getUint8(0), view.getUint8(BYTES - 1));
    const deleter = managed.getPointer(versioned ? 16 : 56)!;
    const free = new Deno.UnsafeFnPointer(deleter as Deno.PointerObject<never>, {
      parameters: ["u64"],
      result: "void",
    });
    free.call(address);
  });
}
