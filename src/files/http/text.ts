/**
 * Requests for small texts of servers: lists of files, and properties of models.
 */
import { RemoteError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { Attempts, RetryNotes } from "./attempts.ts";
import { describeStatus, refusalError } from "./client.ts";
import type { RemoteName } from "./host.ts";
import type { FileContext } from "./http_file.ts";

/** Most bytes of one text. */
const MOST_BYTES = 16 * 2 ** 20;

/** A text with the headers of its answer. */
export interface RemoteText {
  readonly text: string;
  readonly headers: Headers;
}

/**
 * Requests a text.
 *
 * @throws {RemoteError} if the server refuses, or the text is longer than 16 MiB
 */
export async function requestText(
  { client, limits, signal }: FileContext,
  name: Pick<RemoteName, "path" | "locate" | "explain" | "follows" | "rewrite">,
): Promise<RemoteText> {
  const { path, follows = true, rewrite } = name;
  const action = `Cannot open ${quote(path)}`;
  const attempts = new Attempts({ host: client.host, limits, notes: new RetryNotes(), path, action, signal });
  for (let corrected = 0;;) {
    try {
      const { timeoutSeconds } = limits;
      const asked = { path, signal, timeoutSeconds, follows, ...rewrite && { rewrite } };
      const answer = await client.get(await name.locate(), asked);
      if (answer.status === 200) {
        try {
          return { text: await textOf(path, answer), headers: answer.headers };
        } finally {
          await answer.body.close();
        }
      }
      const refusal = await client.refusal(answer);
      const explained = name.explain?.(refusal) ?? null;
      if (explained === "again" && corrected++ < 2) continue;
      throw explained instanceof Error ? explained : refusalError(path, "open", refusal);
    } catch (error) {
      await attempts.afterFailure(error);
    }
  }
}

async function textOf(
  path: string,
  { status, body }: Awaited<ReturnType<FileContext["client"]["get"]>>,
): Promise<string> {
  let bytes = new Uint8Array(256 * 1024);
  let length = 0;
  for (;;) {
    const filled = await body.fill(bytes.subarray(length));
    length += filled;
    if (length < bytes.byteLength) return new TextDecoder().decode(bytes.subarray(0, length));
    if (length > MOST_BYTES) {
      const message =
        `Cannot open ${quote(path)}: the server answered ${describeStatus(status)} with more than ` +
        `${MOST_BYTES} bytes of text`;
      throw new RemoteError(message, { path, code: "InvalidAnswer", status });
    }
    const larger = new Uint8Array(2 * length);
    larger.set(bytes);
    bytes = larger;
  }
}
