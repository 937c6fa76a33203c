/**
 * Files of servers that lanes read through libcurl.
 */
import type { Handle } from "../../../ffi/handle.ts";
import {
  ANSWER_ENCODED,
  ANSWER_HEAD,
  ANSWER_LONG,
  connectionErrorText,
  findCurl,
  HTTP_READER,
  isCertificateError,
  isStale,
  openNetFile,
  renewAddress,
  TIMED_OUT,
} from "../../../ffi/net.ts";
import type { PlanFailure, PlanFile, Retries } from "../../../ffi/plan_memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { isCudaName } from "../../base/device_name.ts";
import { DeviceError, RemoteError, type RemoteErrorCode } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { describeStatus, refusalError } from "../http/client.ts";
import { changedFile } from "../http/http_file.ts";
import { isUrl } from "../inputs.ts";
import type { CacheFile } from "../cache/cache_file.ts";
import type { RemoteAddress, RemoteFile } from "../http/remote_file.ts";
import type { Source, SourceFile } from "../source.ts";
import type { LaneFile } from "./native_file.ts";

/** Lanes of a load from servers, if the user sets no number, and the most. */
const LANES = { lanes: 16, usualLanes: 4 } as const;

/** Connections of one lane: with the usual lanes as many as tools for object stores use. */
const CONNECTIONS = 4;

/** A file of a server that lanes read; small reads go through fetch, as those of the file itself. */
export class NativeHttpFile implements LaneFile {
  readonly path: string;
  readonly size: number;
  readonly reader = LANES;
  readonly #shim: Shim;
  readonly #file: RemoteFile;
  readonly #handle: Handle;
  #address: RemoteAddress;
  #renewing: Promise<void> | null = null;

  private constructor(shim: Shim, file: RemoteFile, address: RemoteAddress) {
    this.#shim = shim;
    this.#file = file;
    this.#address = address;
    this.path = file.path;
    this.size = file.size;
    const { size, etag, limits } = file;
    this.#handle = openNetFile(shim, { size, etag, ...limits }, address);
  }

  /** Prepares an open file for lanes, and takes its ownership; libcurl must be available. */
  static async of(shim: Shim, file: RemoteFile): Promise<NativeHttpFile> {
    return new NativeHttpFile(shim, file, await file.address());
  }

  get isInMemory(): boolean {
    return this.head.byteLength === this.size;
  }

  get head(): Uint8Array {
    return this.#file.head;
  }

  releaseHead(): void {
    this.#file.releaseHead();
  }

  takeNotes(): readonly string[] {
    return this.#file.takeNotes?.() ?? [];
  }

  read(offset: number, target: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<void> {
    return this.#file.read(offset, target, signal);
  }

  way(offset: number, length: number): "http" | "cache" {
    return this.#file.cache ? this.#file.way!(offset, length) as "http" | "cache" : "http";
  }

  get cache(): CacheFile | undefined {
    return this.#file.cache;
  }

  cachedFraction(): number {
    return 1; // the page cache does not have it: direct reads are of no use
  }

  openDirect(): Promise<boolean> {
    return Promise.resolve(false);
  }

  lend(ended: Promise<void>): PlanFile {
    const none = { fd: -1, fdDirect: -1, mtimeSeconds: 0n, mtimeNanoseconds: 0n };
    let handle!: bigint;
    this.#handle.use(`load ${quote(this.path)}`, (value) => {
      handle = value;
      return ended;
    });
    const { cache, size } = this;
    const reader = { kind: HTTP_READER, handle, depth: CONNECTIONS };
    return { ...none, size, reader, ...cache?.isFilled && cache.fd !== null && { cacheFd: cache.fd } };
  }

  renew(): Promise<void> | null {
    if (this.#handle.closed || !this.#handle.use("load", (handle) => isStale(this.#shim, handle))) {
      return null;
    }
    return this.#renewing ??= this.#renew().finally(() => this.#renewing = null);
  }

  async #renew(): Promise<void> {
    const address = await this.#file.address(this.#address);
    this.#address = address;
    this.#handle.use("load", (handle) => renewAddress(this.#shim, handle, address));
  }

  describeRetries({ count, kind, errno }: Retries): string {
    const reason = kind === "http"
      ? `the server answered ${describeStatus(errno)}`
      : this.#connectionReason(errno);
    return count === 1
      ? `Repeated a request to a server: ${reason}`
      : `Repeated ${count} requests to servers; the last reason: ${reason}`;
  }

  #connectionReason(errno: number): string {
    return errno === TIMED_OUT
      ? `no byte came for ${this.#file.limits.timeoutSeconds} seconds`
      : connectionErrorText(this.#shim, errno);
  }

  failure({ kind, errno, offset, expected, actual }: PlanFailure, tensor: string): RemoteError {
    const { path } = this;
    const error = (code: RemoteErrorCode, reason: string, status = 0) => {
      const message = `Cannot read ${quote(path)} (tensor ${quote(tensor)}): ${reason}`;
      return new RemoteError(message, { path, code, status, offset, expected, actual });
    };
    const { retries } = this.#file.limits;
    const again = retries === 0
      ? ""
      : `, also after ${retries === 1 ? "a second try" : `${retries} more tries`}`;
    const at = `${expected} bytes expected at offset ${offset}, ${actual} came`;
    switch (kind) {
      case "changed":
        return changedFile(path, errno);
      case "connection": {
        const text = this.#connectionReason(errno);
        if (!isCertificateError(errno)) return error("Unreachable", `${at}: ${text}${again}`);
        const advice = "if you trust this server, name its certificate authority in SSL_CERT_FILE";
        return error("Unreachable", `${text}: ${advice}`);
      }
      case "answer":
        return error("InvalidAnswer", `${at}: ${ANSWERS[errno] ?? RANGE}`, 206);
    }
    if (errno === 200) {
      return error(
        "InvalidAnswer",
        `${at}: the server answered a request for a range with the whole file`,
        200,
      );
    }
    if (errno === 404 || errno === 410 || errno === 416) return changedFile(path, errno);
    const refusal = refusalError(path, "read", { status: errno, headers: new Headers(), text: "" });
    if (refusal instanceof RemoteError) return refusal;
    return error("ServerFailure", `the server answered ${describeStatus(errno)}${again}`, errno);
  }

  async close(): Promise<void> {
    await this.#handle.close();
    await this.#file.close();
  }
}

const RANGE = "the server answered with another range";
const ANSWERS: Readonly<Record<number, string>> = {
  [ANSWER_ENCODED]: "the server encoded the bytes, although none was asked for",
  [ANSWER_HEAD]: "the headers of the answer are too long",
  [ANSWER_LONG]: "more bytes came than the range has",
};

/** Opens files by another source, and prepares those of servers for lanes where libcurl is available. */
export class NativeHttpSource implements Source {
  readonly isForLanes = true;
  readonly #shim: Shim;
  readonly #source: Source;
  readonly #device: unknown;
  #reason: string | null = null;

  /** @param device the device of the load: only lanes write to CUDA devices */
  constructor(shim: Shim, source: Source, device: unknown) {
    this.#shim = shim;
    this.#source = source;
    this.#device = device;
  }

  get name(): string {
    return this.#source.name;
  }

  get notes(): readonly string[] {
    const notes = this.#source.notes ?? [];
    if (this.#reason === null) return notes;
    return [...notes, `Files on servers are read through fetch, which is slower: ${this.#reason}`];
  }

  async open(path: string, folder?: string, isLookedAt?: boolean): Promise<SourceFile> {
    const finding = isUrl(path) ? findCurl(this.#shim) : null; // its search takes as long as the first request
    finding?.catch(() => {}); // it is awaited only if the file is open
    const file = await this.#source.open(path, folder, isLookedAt);
    if (!isRemote(file)) return file;
    const curl = file.ranges ? await (finding ?? findCurl(this.#shim)) : null;
    if (curl?.path) return await NativeHttpFile.of(this.#shim, file);
    const reason = curl?.path === null ? `libcurl is not available: ${curl.reason}` : null;
    if (isCudaName(this.#device)) {
      await file.close();
      const why = reason ?? "its server ignores ranges";
      const message = `Cannot load ${quote(file.path)} to ${quote(this.#device)}: ${why}: ` +
        'load to "cpu" and move the tensors';
      throw new DeviceError(message, { library: "libcurl" });
    }
    this.#reason ??= reason;
    return file;
  }
}

function isRemote(file: SourceFile): file is RemoteFile {
  return "address" in file;
}
