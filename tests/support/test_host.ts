/**
 * The network of tests that run without a program around: pauses end at once, connections are recorded.
 */
import type { NetworkHost } from "../../src/files/http/host.ts";
import { HttpClient } from "../../src/files/http/client.ts";
import type { FileContext } from "../../src/files/http/http_file.ts";
import type { RemoteLimits } from "../../src/files/http/remote_file.ts";

/** A host whose pauses end at once. */
export class TestHost implements NetworkHost {
  /** The pauses so far, in milliseconds. */
  readonly pauses: number[] = [];
  /** The hosts of all connections. */
  readonly connections: string[] = [];
  /** Files that are open. */
  retained = 0;

  fetch(url: string, init: RequestInit): Promise<Response> {
    return fetch(url, init);
  }

  checkAccess(url: URL): void {
    this.connections.push(url.host);
  }

  pause(milliseconds: number, signal: AbortSignal): Promise<void> {
    this.pauses.push(milliseconds);
    signal.throwIfAborted();
    return Promise.resolve();
  }

  retain(): void {
    this.retained++;
  }

  release(): void {
    this.retained--;
  }
}

/** What files of a test share. */
export function testContext(host = new TestHost(), limits: Partial<RemoteLimits> = {}): FileContext {
  return {
    client: new HttpClient(host),
    limits: { retries: 3, timeoutSeconds: 30, ...limits },
    signal: new AbortController().signal,
  };
}
