/**
 * The low-level API, on 3FS and with ordinary reads.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DeviceError, ReadError, SafeTensorsError, UseAfterCloseError } from "../../mod.ts";
import { createReader, extractMountPoint, type ReaderOptions } from "../../src/three_fs/mod.ts";
import { setEnv } from "../support/environment.ts";
import { assertBytes, fileOf, noise, type TensorSpec } from "../support/models.ts";
import { use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();

const SPECS: TensorSpec[] = [{ name: "x", dtype: "F32", shape: [300, 1000] }, {
  name: "é",
  dtype: "U8",
  shape: [7],
}];
const BACKENDS = ["usrbio", "posix", "mock"] as const;

/** Small, so that a file needs the buffer many times. */
const SMALL: ReaderOptions = { bufferBytes: 2 ** 20, entries: 8 };

usrbioSuite("The low-level reader", machine, (test, standIn) => {
  const model = async (folder: string): Promise<[string, Uint8Array<ArrayBuffer>]> => {
    const { bytes } = fileOf(SPECS, { misalignment: 1 });
    await Deno.writeFile(`${folder}/model.safetensors`, bytes);
    return [`${folder}/model.safetensors`, bytes];
  };

  for (const backend of BACKENDS) {
    test(`readHeadersBatch() returns each header's bytes (${backend})`, async (folder) => {
      const files = new Map<string, Uint8Array<ArrayBuffer>>();
      for (let index = 0; index < 20; index++) {
        const { bytes } = fileOf(SPECS, { padding: index * 10_000 }); // some are longer than the first read
        files.set(`${folder}/${index}.safetensors`, bytes);
      }
      for (const [path, bytes] of files) await Deno.writeFile(path, bytes);
      await using reader = await createReader({ ...SMALL, backend });
      assertEquals(reader.backend, backend);
      for (const threads of [undefined, 1, 32]) {
        const headers = await reader.readHeadersBatch(
          [...files.keys()],
          threads === undefined ? {} : { threads },
        );
        assertEquals([...headers.keys()], [...files.keys()]);
        for (const [path, bytes] of files) {
          const { json, headerLength, fileSize } = headers.get(path)!;
          const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
          assertEquals([headerLength, fileSize], [8 + length, bytes.byteLength]);
          assertEquals(json, new TextDecoder().decode(bytes.subarray(8, 8 + length)));
        }
      }
      assertEquals(await reader.readHeadersBatch([]), new Map());
    });

    test(`readChunked() reads any range, with chunks of any size, pipelined or not (${backend})`, async (folder) => {
      const path = `${folder}/noise`;
      const content = noise(5_000_003, 5);
      await Deno.writeFile(path, content);
      await using reader = await createReader({ ...SMALL, backend });
      for (const pipelined of [false, true]) {
        for (const chunkBytes of [undefined, 1, 4096, 100_001, 2 ** 20, 2 ** 30]) {
          const few = chunkBytes === 1;
          for (
            const [offset, length] of [[0, content.length], [1, 4095], [2 ** 20 - 1, 2 ** 21 + 3], [
              4_999_000,
              1003,
            ]]
          ) {
            const totalLength = few ? Math.min(length!, 200) : length!;
            const buffer = new Uint8Array(totalLength + 10).fill(0x55);
            const options = { path, buffer, fileOffset: offset!, totalLength, pipelined };
            const got = await reader.readChunked(
              chunkBytes === undefined ? options : { ...options, chunkBytes },
            );
            assertEquals(got, totalLength);
            assertBytes(buffer.subarray(0, got), content.subarray(offset!, offset! + got), `${chunkBytes}`);
            assert(
              buffer.subarray(got).every((byte) => byte === 0x55),
              "nothing is written behind the range",
            );
          }
        }
      }
    });

    test(`readChunked() returns the number of bytes before the end of the file (${backend})`, async (folder) => {
      const [path, bytes] = await model(folder);
      await using reader = await createReader({ ...SMALL, backend });
      const buffer = new Uint8Array(1000);
      const at = bytes.byteLength - 10;
      assertEquals(await reader.readChunked({ path, buffer, fileOffset: at, totalLength: 1000 }), 10);
      assertEquals(buffer.subarray(0, 10), bytes.subarray(at));
      assertEquals(await reader.readChunked({ path, buffer, fileOffset: at + 10, totalLength: 1000 }), 0);
      assertEquals(await reader.readChunked({ path, buffer, fileOffset: at + 11, totalLength: 1000 }), 0);
      assertEquals(await reader.readChunked({ path, totalLength: 0 }), 0);
    });

    test(`a relative path counts from the working folder at the time of the call (${backend})`, async (folder) => {
      const [, bytes] = await model(folder);
      await using reader = await createReader({ ...SMALL, backend });
      const before = Deno.cwd();
      const path = "model.safetensors";
      /** Calls in the folder, and goes elsewhere at once. */
      const leave = async <R>(call: () => Promise<R>): Promise<R> => {
        Deno.chdir(folder);
        const result = call();
        Deno.chdir(before);
        return await result;
      };
      assertEquals(
        (await leave(() => reader.readHeadersBatch([path]))).get(path)?.fileSize,
        bytes.byteLength,
      );
      const buffer = new Uint8Array(bytes.byteLength);
      await leave(() => reader.readChunked({ path, buffer, totalLength: buffer.byteLength }));
      assertBytes(buffer, bytes, path);
      assertEquals(await leave(() => extractMountPoint(path)), standIn.mount);
      await assertRejects(() => reader.readHeadersBatch([path]), ReadError);
    });

    test(`readChunked() without a target discards the bytes (${backend})`, async (folder) => {
      const [path, bytes] = await model(folder);
      await using reader = await createReader({ ...SMALL, backend });
      assertEquals(await reader.readChunked({ path, totalLength: 2 ** 40 }), bytes.byteLength);
      if (backend === "usrbio") assertEquals(standIn.report().counts.bytes, bytes.byteLength);
    });

    test(`a reader reads one range at a time, also for parallel calls (${backend})`, async (folder) => {
      const [path, bytes] = await model(folder);
      await using reader = await createReader({ ...SMALL, backend });
      const buffers = Array.from({ length: 20 }, (_, index) => new Uint8Array(50_000 + index));
      await Promise.all(
        buffers.map((buffer, index) =>
          reader.readChunked({ path, buffer, fileOffset: index * 1000, totalLength: buffer.byteLength })
        ),
      );
      for (const [index, buffer] of buffers.entries()) {
        assertBytes(buffer, bytes.subarray(index * 1000, index * 1000 + buffer.byteLength), `${index}`);
      }
      if (backend === "usrbio") assertEquals(standIn.report().counts.rings, 1);
    });

    test(`a reader names files that it cannot read (${backend})`, async (folder) => {
      const [path, bytes] = await model(folder);
      await Deno.writeTextFile(`${folder}/short`, "12345");
      await Deno.writeFile(`${folder}/bad`, new Uint8Array([4, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
      await using reader = await createReader({ ...SMALL, backend });
      const missing = await assertRejects(
        () => reader.readHeadersBatch([path, `${folder}/missing`]),
        ReadError,
      );
      assertEquals(missing.errno, 2);
      await assertRejects(() => reader.readChunked({ path: `${folder}/missing`, totalLength: 1 }), ReadError);
      await Deno.writeFile(`${folder}/missing`, bytes); // the reader opens it again
      assertEquals(await reader.readChunked({ path: `${folder}/missing`, totalLength: 1 }), 1);
      for (const [name, code] of [["short", "HeaderTooSmall"], ["bad", "InvalidHeader"]] as const) {
        const error = await assertRejects(
          () => reader.readHeadersBatch([`${folder}/${name}`]),
          SafeTensorsError,
        );
        assertEquals([error.code, error.path], [code, `${folder}/${name}`]);
      }
      await Deno.truncate(path, 5000);
      const error = await assertRejects(
        () => reader.readChunked({ path, fileOffset: 4000, totalLength: 2000 }),
        ReadError,
      );
      assertEquals([error.offset, error.expected, error.actual], [4000, 2000, 1000]);
      assertStringIncludes(error.message, "was it truncated?");
    });

    test(`a reader rejects invalid arguments (${backend})`, async (folder) => {
      const [path] = await model(folder);
      await using reader = await createReader({ ...SMALL, backend });
      const buffer = new Uint8Array(10);
      for (
        const options of [
          { totalLength: -1 },
          { totalLength: 1.5 },
          { totalLength: 1, fileOffset: -1 },
          { totalLength: 1, chunkBytes: NaN },
          { totalLength: 11, buffer },
          { totalLength: 1, devicePointer: 0n },
          { totalLength: 1, devicePointer: 4096n, device: -1 },
        ]
      ) await assertRejects(() => reader.readChunked({ path, ...options }), RangeError);
      await assertRejects(
        () => reader.readChunked({ path, totalLength: 1, buffer, devicePointer: 4096n }),
        TypeError,
        "give one of",
      );
      await assertRejects(() => reader.readHeadersBatch([path], { threads: 0 }), RangeError, "threads");
      const wrong: [options: object, message: string][] = [
        [{ length: 1 }, 'readChunked() has no option "length"'],
        [{ totalLength: "1" }, 'totalLength must be a number, got "1"'],
        [{ totalLength: 1, path: 7 }, "A path must be a string, got 7"],
        [{ totalLength: 1, buffer: [0] }, "buffer must be a Uint8Array, got an array"],
        [{ totalLength: 1, devicePointer: 4096 }, "devicePointer must be a bigint, got 4096"],
        [{ totalLength: 1, pipelined: 1 }, "pipelined must be true or false, got 1"],
        [{ totalLength: 1, signal: {} }, "signal must be an AbortSignal, got an object"],
      ];
      for (const [options, message] of wrong) {
        await assertRejects(
          () => reader.readChunked({ path, totalLength: 1, ...options }),
          TypeError,
          message,
        );
      }
      await assertRejects(
        () => reader.readHeadersBatch([path], { thread: 1 } as object),
        TypeError,
        'readHeadersBatch() has no option "thread": did you mean threads?',
      );
      await assertRejects(() => reader.readHeadersBatch(path as never), TypeError, "paths must be an array");
    });

    test(`a signal ends a read, and the next one works (${backend})`, async (folder) => {
      const [path, bytes] = await model(folder);
      await using reader = await createReader({ ...SMALL, backend });
      const early = AbortSignal.abort(new Error("before"));
      await assertRejects(
        () => reader.readChunked({ path, totalLength: 10, signal: early }),
        Error,
        "before",
      );
      {
        using held = standIn.hold();
        const stop = new AbortController();
        const read = reader.readChunked({
          path,
          totalLength: bytes.length,
          chunkBytes: 512,
          signal: stop.signal,
        });
        setTimeout(() => {
          stop.abort(new Error("meanwhile"));
          held[Symbol.dispose]();
        }, 1);
        if (backend === "usrbio") await assertRejects(() => read, Error, "meanwhile");
        else await read.catch((error) => assertEquals(error.message, "meanwhile")); // it may have completed before
      }
      assertEquals(await reader.readChunked({ path, totalLength: bytes.length }), bytes.length);
    });

    test(`a closed reader rejects reads (${backend})`, async (folder) => {
      const [path, bytes] = await model(folder);
      const reader = await createReader({ ...SMALL, backend });
      const buffer = new Uint8Array(bytes.length);
      const reading = reader.readChunked({ path, buffer, totalLength: bytes.length });
      await reader.readHeadersBatch([path]);
      await Promise.all([reader.close(), reader.close(), reading.catch(() => {})]);
      await assertRejects(() => reader.readChunked({ path, totalLength: 1 }), UseAfterCloseError);
      await assertRejects(() => reader.readHeadersBatch([path]), UseAfterCloseError);
    });
  }

  test("a reader without a chosen backend uses ordinary reads for other files", async (folder) => {
    const [path, bytes] = await model(folder);
    const outside = await Deno.makeTempFile();
    try {
      await Deno.writeFile(outside, bytes);
      await using reader = await createReader(SMALL);
      assertEquals(reader.backend, "usrbio");
      for (const name of [path, outside]) {
        const buffer = new Uint8Array(bytes.length);
        await reader.readChunked({ path: name, buffer, totalLength: bytes.length });
        assertBytes(buffer, bytes, name);
      }
      assertEquals([standIn.report().counts.bytes, reader.notes], [bytes.length, []]);
      using _ = standIn.fail("reg_fd:1:24");
      await Deno.writeFile(`${folder}/third`, bytes);
      await reader.readChunked({ path: `${folder}/third`, totalLength: 100 });
      assertStringIncludes(reader.notes[0]!, "too many open files");
      await using demanding = await createReader({ ...SMALL, backend: "usrbio" });
      await assertRejects(() => demanding.readHeadersBatch([outside]), DeviceError, "it is not on 3FS");
    } finally {
      await Deno.remove(outside);
    }
  });

  test("createReader() rejects unknown options", async () => {
    await assertRejects(
      () => createReader({ backend: "cpp" as "mock" }),
      TypeError,
      'backend must be "auto", "usrbio", "posix" or "mock", got "cpp"',
    );
    await assertRejects(() => createReader({ bufferBytes: 4096 }), RangeError, "bufferBytes");
    await assertRejects(
      () => createReader({ bufferByte: 4096 } as object),
      TypeError,
      'createReader() has no option "bufferByte": did you mean bufferBytes?',
    );
    using _ = setEnv({ FASTSAFETENSORS_BACKEND: "python" });
    await assertRejects(() => createReader(), TypeError, "FASTSAFETENSORS_BACKEND");
    await (await createReader({ backend: "mock" })).close(); // options in code override the environment
  });

  test("a read that fails drains its ring, and the next one works", async (folder) => {
    const [path, bytes] = await model(folder);
    await using reader = await createReader({ ...SMALL, backend: "usrbio", timeoutSeconds: 0.8 });
    for (const pipelined of [false, true]) {
      for (const spec of ["read:2:-5", "read:5:-5", "prep_io:4:-22", "submit_ios:2:-5", "lost:3:0"]) {
        using _ = standIn.fail(spec);
        const buffer = new Uint8Array(bytes.length);
        const options = { path, buffer, totalLength: bytes.length, chunkBytes: 50_000, pipelined };
        const error = await assertRejects(() => reader.readChunked(options), ReadError);
        assertEquals(error.errno, spec === "prep_io:4:-22" ? 22 : spec === "lost:3:0" ? 110 : 5, spec);
        standIn.fail("")[Symbol.dispose]();
        await reader.readChunked(options);
        assertBytes(buffer, bytes, spec);
      }
    }
  }, { abandoned: true });
});
