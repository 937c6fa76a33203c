/**
 * How the ranks of a group over TCP find each other: rank 0 listens, the others connect.
 */
import { GroupError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { GroupControl, type GroupLink } from "./control.ts";
import type { GroupMessage } from "./hub.ts";
import { readFrame, writeFrame } from "./frames.ts";
import type { LaunchPlace } from "./launcher.ts";
import type { Json } from "./process_group.ts";

/** How a rank introduces itself. */
interface Hello {
  readonly protocol: typeof PROTOCOL;
  readonly job: string;
  readonly secret: string;
  readonly rank: number;
  readonly size: number;
}

/** A message to rank 0: for itself, or to forward. */
interface ToHub {
  readonly to: number;
  readonly said: GroupMessage;
}

/** A message that rank 0 forwards: one of a rank, or why its process has ended. */
type FromHub =
  | { readonly from: number; readonly said: GroupMessage }
  | { readonly from: number; readonly ended: string };

/** Rank 0's answer to an introduction. */
type Answer = { readonly welcome: true } | { readonly reason: string };

const PROTOCOL = "fastsafetensors 2";
const ENDED = "its process has ended";
/** Messages are delivered as they arrive. */
const ALWAYS = { look: () => {}, listen: () => ({ [Symbol.dispose]: () => {} }), fail: () => {} };
/** How long, in milliseconds, a connection may stay silent before it is taken for a stranger's. */
const HELLO_MS = 5000;
/** Longest introduction, in bytes: a stranger's length takes no more memory than this. */
const HELLO_BYTES = 16 * 1024;
const RETRY_MS = 50;
/** How long, in milliseconds, the others may take to read the last message. */
const LINGER_MS = 1000;

/**
 * Meets the other ranks at rank 0's address.
 *
 * @throws {GroupError} if not all come within the time, or rank 0 sees that a rank belongs to another group
 */
export async function meetOverTcp(place: LaunchPlace, timeoutSeconds: number): Promise<GroupControl> {
  const until = performance.now() + timeoutSeconds * 1000;
  return place.rank === 0
    ? await gather(place, timeoutSeconds, until)
    : await join(place, timeoutSeconds, until);
}

/** A connection that is written to in order, and does not keep the process from ending. */
class Line {
  readonly #connection: Deno.TcpConn;
  #written: Promise<void> = Promise.resolve();
  #read: Promise<void> = Promise.resolve();
  #writes = 0;
  #open = true;

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
    connection.setNoDelay(true);
    connection.unref();
  }

  /** Writes after earlier messages. An ended connection ignores it. */
  tell(message: ToHub | FromHub | Answer): Promise<void> {
    if (!this.#open) return Promise.resolve();
    this.#writes++;
    this.#connection.ref();
    this.#written = this.#written.then(() => writeFrame(this.#connection, json(message))).catch(() => {})
      .then(() => {
        if (--this.#writes === 0 && this.#open) this.#connection.unref();
      });
    return this.#written;
  }

  /** Delivers messages, and at last the end of the connection. */
  listen<T>(take: (message: T) => void, lost: () => void): void {
    this.#read = (async () => {
      try {
        for (let said; (said = await readFrame(this.#connection)) !== null;) take(said as T);
      } catch { /* as if it had ended */ }
      lost();
    })();
  }

  /** Ends writing, and waits a little for the other side to do the same. */
  async close(): Promise<void> {
    this.#open = false;
    this.#connection.ref();
    await this.#written;
    await this.#connection.closeWrite().catch(() => {});
    let timer;
    const patience = new Promise<void>((resolve) => timer = setTimeout(resolve, LINGER_MS));
    await Promise.race([this.#read, patience]);
    clearTimeout(timer);
    this.#connection.close();
    await this.#read;
  }
}

/** Rank 0: waits for all others. */
async function gather(place: LaunchPlace, timeoutSeconds: number, until: number): Promise<GroupControl> {
  const lines = new Map<number, Line>();
  try {
    if (place.size > 1) await admitAll(place, lines, until);
  } catch (error) {
    await Promise.all(Array.from(lines.values(), (line) => line.close()));
    throw error;
  }
  if (lines.size < place.size - 1) {
    await Promise.all(Array.from(lines.values(), (line) => line.close()));
    const missing = Array.from({ length: place.size - 1 }, (_, index) => index + 1).filter((rank) =>
      !lines.has(rank)
    );
    const reason = `did not come to ${place.address}:${place.port} within ${timeoutSeconds} seconds`;
    throw new GroupError(`Cannot form a group: rank ${missing.join(", ")} ${reason}`, missing[0]!, reason);
  }
  const left = new Set<number>();
  const link: GroupLink = {
    ...ALWAYS,
    tell: (to, said) => lines.get(to)!.tell({ from: 0, said }),
    close: async () => void await Promise.all(Array.from(lines.values(), (line) => line.close())),
  };
  const control = new GroupControl(0, place.size, timeoutSeconds, link);
  for (const [from, line] of lines) {
    line.listen<ToHub>(({ to, said }) => {
      if (said.type === "left") left.add(from);
      if (to === 0) control.take(from, said);
      else void lines.get(to)?.tell({ from, said });
    }, () => {
      if (left.has(from)) return;
      for (const [rank, other] of lines) if (rank !== from) void other.tell({ from, ended: ENDED });
      control.ended(from, ENDED);
    });
  }
  return control;
}

/** Another rank: looks for rank 0 until it is there. */
async function join(place: LaunchPlace, timeoutSeconds: number, until: number): Promise<GroupControl> {
  const connection = await connect(place, timeoutSeconds, until);
  const { job, secret, rank, size } = place;
  await writeFrame(connection, { protocol: PROTOCOL, job, secret, rank, size });
  const answer = await readFrame(connection).catch(() => null) as { welcome?: true; reason?: string } | null;
  if (!answer?.welcome) {
    connection.close();
    const reason = answer?.reason ?? `what listens at ${place.address}:${place.port} is no rank 0`;
    throw new GroupError(`Cannot join a group: ${reason}`, 0, reason);
  }
  const line = new Line(connection);
  let hasLeft = false;
  const link: GroupLink = {
    ...ALWAYS,
    tell: (to, said) => line.tell({ to, said }),
    close: () => line.close(),
  };
  const control = new GroupControl(rank, size, timeoutSeconds, link);
  line.listen<FromHub>((message) => {
    if ("ended" in message) return control.ended(message.from, message.ended);
    hasLeft ||= message.from === 0 && message.said.type === "left";
    control.take(message.from, message.said);
  }, () => {
    if (!hasLeft) control.ended(0, ENDED);
  });
  return control;
}

/** Admits ranks until all are here or the time is up. A silent connection does not delay others. */
async function admitAll(place: LaunchPlace, lines: Map<number, Line>, until: number): Promise<void> {
  const listener = listen(place);
  const timer = setTimeout(() => closeQuietly(listener), until - performance.now());
  const unknown = new Map<Deno.TcpConn, Promise<void>>();
  try {
    while (lines.size < place.size - 1) {
      const connection = await listener.accept();
      const admitted = admit(connection, place, lines).finally(() => {
        unknown.delete(connection);
        if (lines.size === place.size - 1) closeQuietly(listener);
      });
      unknown.set(connection, admitted);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted)) throw error;
  } finally {
    clearTimeout(timer);
    closeQuietly(listener);
    const ended = [...unknown.values()];
    for (const connection of unknown.keys()) closeQuietly(connection);
    await Promise.all(ended);
  }
}

/** Accepts a connection as a rank's, or sends the reason why not. */
async function admit(connection: Deno.TcpConn, place: LaunchPlace, lines: Map<number, Line>): Promise<void> {
  const timer = setTimeout(() => closeQuietly(connection), HELLO_MS);
  const hello = await readFrame(connection, HELLO_BYTES).catch(() => null) as Partial<Hello> | null;
  const knowsSecret = await isSame(String(hello?.secret ?? ""), place.secret);
  const reason = hello?.protocol !== PROTOCOL
    ? "this is rank 0 of something else"
    : !knowsSecret
    ? "rank 0 has another secret: give all ranks the same one, by the option secret or FASTSAFETENSORS_GROUP_SECRET"
    : hello.job !== place.job
    ? `this is job ${quote(place.job)}, not ${quote(String(hello.job))}`
    : hello.size !== place.size
    ? `rank 0 expects ${place.size} ranks, rank ${hello.rank} ${hello.size}`
    : !Number.isInteger(hello.rank) || hello.rank! < 1 || hello.rank! >= place.size || lines.has(hello.rank!)
    ? `there is no place for another rank ${hello.rank}`
    : undefined;
  if (reason === undefined) {
    clearTimeout(timer);
    const line = new Line(connection);
    lines.set(hello!.rank!, line); // before the first await: another connection may give the same number
    await line.tell({ welcome: true });
    return;
  }
  await writeFrame(connection, { reason }).catch(() => {});
  clearTimeout(timer);
  closeQuietly(connection);
}

/** Compares digests, so that its duration does not depend on the secret. */
async function isSame(a: string, b: string): Promise<boolean> {
  const encoder = new TextEncoder();
  const [first, second] = await Promise.all(
    [a, b].map((text) => crypto.subtle.digest("SHA-256", encoder.encode(text))),
  );
  return new Uint8Array(first!).toHex() === new Uint8Array(second!).toHex();
}

/** Listens at rank 0's address only, as an admitted process takes part in the group's calls. */
function listen({ address, port }: LaunchPlace): Deno.TcpListener {
  const where = `Cannot meet the other ranks at ${address}:${port}`;
  const mend = "give all ranks an address of rank 0's machine, by the option address or MASTER_ADDR";
  let listener;
  try {
    listener = Deno.listen({ hostname: address, port });
  } catch (cause) {
    if (cause instanceof Deno.errors.AddrNotAvailable) {
      throw new Deno.errors.AddrNotAvailable(`${where}: the address is not this machine's; ${mend}`, {
        cause,
      });
    }
    if (!(cause instanceof Deno.errors.AddrInUse)) throw cause;
    throw new Deno.errors.AddrInUse(
      `${where}: the port is taken; give all ranks another one, by the option port or MASTER_PORT`,
      { cause },
    );
  }
  if (!["0.0.0.0", "::", "::ffff:0.0.0.0"].includes(listener.addr.hostname)) return listener;
  listener.close();
  throw new Deno.errors.AddrNotAvailable(`${where}: that stands for all addresses of a machine; ${mend}`);
}

async function connect(place: LaunchPlace, timeoutSeconds: number, until: number): Promise<Deno.TcpConn> {
  for (;;) {
    try {
      return await Deno.connect({ hostname: place.address, port: place.port });
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw error;
      if (performance.now() < until) {
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
        continue;
      }
      const reason = `did not come to ${place.address}:${place.port} within ${timeoutSeconds} seconds`;
      throw new GroupError(`Cannot join a group: rank 0 ${reason}`, 0, reason, { cause: error });
    }
  }
}

/** Messages are plain data; undefined properties do not occur. */
function json(message: ToHub | FromHub | Answer): Json {
  return message as unknown as Json;
}

function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch { /* closed before */ }
}
