/**
 * The bytes of a file that are in memory, in a Blob or in the body of a Response.
 */
import { describeValue } from "../base/check.ts";
import { ReadError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { headerLength, headerSteps } from "../format/header_reader.ts";
import type { Header } from "../format/header.ts";
import { finishInTurns } from "../base/turn.ts";

/** The bytes of a file in memory. */
export type FileBytes = ArrayBufferLike | ArrayBufferView;

/** The bytes of a file, some of which may not be in memory yet. */
export type FileContent = FileBytes | Blob | Response;

/** Whether a value is a Blob (also a File), or a Response. */
export function isBlobOrResponse(value: unknown): value is Blob | Response {
  return value instanceof Blob || value instanceof Response;
}

/**
 * Returns a view of the bytes; a copy of them if their memory is shared with Workers.
 *
 * @throws {TypeError} if the value is not an ArrayBuffer or a view of one
 */
export function bytesOf(call: string, file: FileBytes): Uint8Array<ArrayBuffer> {
  const isView = ArrayBuffer.isView(file);
  const buffer = isView ? file.buffer : file;
  if (!(buffer instanceof ArrayBuffer || buffer instanceof SharedArrayBuffer)) {
    throw new TypeError(
      `${call}: file must be an ArrayBuffer, a view of one, a Blob or a Response, got ${describeValue(file)}`,
    );
  }
  const view = isView ? new Uint8Array(buffer, file.byteOffset, file.byteLength) : new Uint8Array(buffer);
  return view.buffer instanceof ArrayBuffer ? view as Uint8Array<ArrayBuffer> : new Uint8Array(view);
}

/**
 * Returns all bytes of a Blob or a Response.
 *
 * @throws {ReadError} if the response is not successful
 */
export async function allBytes(file: Blob | Response): Promise<Uint8Array<ArrayBuffer>> {
  if (file instanceof Response) checkResponse(file);
  return await file.bytes();
}

/**
 * Reads and checks the header of a file; of a Blob or a Response reads no more than it needs, where the size of the file
 * is known, and cancels the rest of the body.
 *
 * @throws {SafeTensorsError} if the header is not valid
 * @throws {ReadError} if the response is not successful, or ends within the header
 */
export async function headerOf(call: string, file: FileContent): Promise<Header> {
  if (!isBlobOrResponse(file)) {
    const bytes = bytesOf(call, file);
    const length = headerLength(bytes, bytes.byteLength);
    return await finishInTurns(headerSteps(bytes.subarray(8, 8 + length), bytes.byteLength));
  }
  if (file instanceof Blob) return await headerOfStream(file.stream(), file.size, "");
  checkResponse(file);
  const size = fileSize(file);
  if (size === undefined || !file.body) return await headerOf(call, await file.bytes());
  return await headerOfStream(file.body, size, file.url);
}

async function headerOfStream(body: ReadableStream<Uint8Array>, size: number, path: string): Promise<Header> {
  const options = path === "" ? {} : { path };
  const reader = body.getReader();
  let bytes = new Uint8Array(4096);
  let filled = 0;
  const fill = async (needed: number) => {
    while (filled < Math.min(needed, size)) {
      const { done, value } = await reader.read();
      if (done) {
        const details = { path, offset: filled, expected: needed - filled, actual: 0 };
        throw new ReadError(
          `Cannot read the header of ${quote(path)}: ${needed} bytes expected, ${filled} found`,
          details,
        );
      }
      if (filled + value.byteLength > bytes.byteLength) {
        const larger = new Uint8Array(Math.max(filled + value.byteLength, 2 * bytes.byteLength));
        larger.set(bytes.subarray(0, filled));
        bytes = larger;
      }
      bytes.set(value, filled);
      filled += value.byteLength;
    }
  };
  try {
    await fill(512); // an error can then name the real format of the file
    const length = headerLength(bytes.subarray(0, filled), size, options);
    await fill(8 + length);
    return await finishInTurns(headerSteps(bytes.subarray(8, 8 + length), size, options));
  } finally {
    await reader.cancel().catch(() => {}); // the header was read, or its own error is thrown
  }
}

/** The size of the whole file; undefined if the response does not say it. */
function fileSize({ headers, status }: Response): number | undefined {
  const range = /^bytes 0-\d+\/(\d+)$/.exec(headers.get("content-range") ?? "");
  if (status === 206) return range ? Number(range[1]) : undefined;
  const length = headers.get("content-length");
  // The length of an encoded body is not that of the file.
  return length !== null && /^\d+$/.test(length) && !headers.has("content-encoding")
    ? Number(length)
    : undefined;
}

function checkResponse({ ok, status, statusText, url, bodyUsed }: Response): void {
  if (bodyUsed) throw new TypeError(`Cannot read ${quote(url)}: the body of the response was read already`);
  if (ok) return;
  throw new ReadError(`Cannot read ${quote(url)}: the server answered ${`${status} ${statusText}`.trim()}`, {
    path: url,
  });
}
