/**
 * How the ranks of a group over TCP find each other: rank 0 listens, the others connect.
 */
import { GroupError } from "../errors.ts";
import { quote } from "../format/text.ts";
import { readFrame, writeFrame } from "./frames.ts";
import type { LaunchPlace } from "./launcher.ts";
import type { Json } from "./process_group.ts";
import { type HubLink, TcpControl } from "./tcp_control.ts";
import { type FromHub, TcpHub, type ToHub } from "./tcp_hub.ts";

/** How a rank introduces itself. */
interface Hello {
  readonly protocol: typeof PROTOCOL;
  readonly job: string;
  readonly rank: number;
  readonly size: number;
}

const PROTOCOL = "fastsafetensors 1";
/** How long, in milliseconds, a connection may stay silent before it is taken for a stranger's. */
const HELLO_MS = 5000;
const RETRY_MS = 50;
/** How long, in milliseconds, the others may take to read what was told last. */
const LINGER_MS = 1000;

/**
 * Meets the other ranks at rank 0's address.
 *
 * @throws {GroupError} if not all come within the time, or rank 0 sees that a rank belongs to another group
 */
export async function meetOverTcp(place: LaunchPlace, timeoutSeconds: number): Promise<TcpControl> {
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

  /** Writes behind what has been told before; a connection that has ended takes no notice. */
  tell(message: ToHub | FromHub): Promise<void> {
    if (!this.#open) return Promise.resolve();
    this.#writes++;
    this.#connection.ref();
    this.#written = this.#written.then(() => writeFrame(this.#connection, json(message))).catch(() => {})
      .then(() => {
        if (--this.#writes === 0 && this.#open) this.#connection.unref();
      });
    return this.#written;
  }

  /** Hands over what comes, and then that nothing more does. */
  listen<T>(take: (message: T) => void, lost: () => void): void {
    this.#read = (async () => {
      try {
        for (let said; (said = await readFrame(this.#connection)) !== null;) take(said as T);
      } catch { /* as if it had ended */ }
      lost();
    })();
  }

  /** Ends what is written, and waits a little for the other side to do the same. */
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
async function gather(place: LaunchPlace, timeoutSeconds: number, until: number): Promise<TcpControl> {
  const lines = new Map<number, Line>();
  const listener = place.size > 1 ? listen(place) : null;
  const timer = setTimeout(() => listener?.close(), until - performance.now());
  try {
    while (listener && lines.size < place.size - 1) await admit(await listener.accept(), place, lines);
  } catch (error) {
    await Promise.all(Array.from(lines.values(), (line) => line.close()));
    if (!(error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted)) throw error;
    const missing = Array.from({ length: place.size - 1 }, (_, index) => index + 1).filter((rank) =>
      !lines.has(rank)
    );
    const reason = `did not come to ${place.address}:${place.port} within ${timeoutSeconds} seconds`;
    throw new GroupError(`Cannot form a group: rank ${missing.join(", ")} ${reason}`, missing[0]!, reason);
  } finally {
    clearTimeout(timer);
    if (listener) closeQuietly(listener);
  }
  const hub: TcpHub = new TcpHub(place.size, (rank, message) => {
    if (rank === 0) queueMicrotask(() => control.take(message));
    else void lines.get(rank)!.tell(message);
  });
  const link: HubLink = {
    tell: (message) => Promise.resolve(hub.take(0, message)),
    close: async () => void await Promise.all(Array.from(lines.values(), (line) => line.close())),
  };
  const control = new TcpControl(0, place.size, timeoutSeconds, link);
  for (const [rank, line] of lines) {
    line.listen<ToHub>((message) => hub.take(rank, message), () => hub.lost(rank));
  }
  return control;
}

/** Another rank: looks for rank 0 until it is there. */
async function join(place: LaunchPlace, timeoutSeconds: number, until: number): Promise<TcpControl> {
  const connection = await connect(place, timeoutSeconds, until);
  const { job, rank, size } = place;
  await writeFrame(connection, { protocol: PROTOCOL, job, rank, size });
  const answer = await readFrame(connection).catch(() => null) as { welcome?: true; reason?: string } | null;
  if (!answer?.welcome) {
    connection.close();
    const reason = answer?.reason ?? `what listens at ${place.address}:${place.port} is no rank 0`;
    throw new GroupError(`Cannot join a group: ${reason}`, 0, reason);
  }
  const line = new Line(connection);
  const link: HubLink = { tell: (message) => line.tell(message), close: () => line.close() };
  const control = new TcpControl(rank, size, timeoutSeconds, link);
  line.listen<FromHub>((message) => control.take(message), () => control.lost());
  return control;
}

/** Lets a rank in, or tells it why not. */
async function admit(connection: Deno.TcpConn, place: LaunchPlace, lines: Map<number, Line>): Promise<void> {
  const timer = setTimeout(() => closeQuietly(connection), HELLO_MS);
  const hello = await readFrame(connection).catch(() => null) as Partial<Hello> | null;
  clearTimeout(timer);
  const reason = hello?.protocol !== PROTOCOL
    ? "this is rank 0 of something else"
    : hello.job !== place.job
    ? `this is job ${quote(place.job)}, not ${quote(String(hello.job))}`
    : hello.size !== place.size
    ? `rank 0 expects ${place.size} ranks, rank ${hello.rank} ${hello.size}`
    : !Number.isInteger(hello.rank) || hello.rank! < 1 || hello.rank! >= place.size || lines.has(hello.rank!)
    ? `there is no place for another rank ${hello.rank}`
    : undefined;
  await writeFrame(connection, reason === undefined ? { welcome: true } : { reason }).catch(() => {});
  if (reason === undefined) lines.set(hello!.rank!, new Line(connection));
  else closeQuietly(connection);
}

function listen({ address, port }: LaunchPlace): Deno.TcpListener {
  try {
    return Deno.listen({ hostname: address, port });
  } catch (error) {
    // The address that the others use may not be one of this machine's, as behind a translation of addresses.
    if (error instanceof Deno.errors.AddrNotAvailable) return Deno.listen({ hostname: "0.0.0.0", port });
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new Deno.errors.AddrInUse(
      `Cannot meet the other ranks at ${address}:${port}: the port is taken; give all ranks another one, by the ` +
        "option port or MASTER_PORT",
      { cause: error },
    );
  }
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
function json(message: ToHub | FromHub): Json {
  return message as unknown as Json;
}

function closeQuietly(resource: { close(): void }): void {
  try {
    resource.close();
  } catch { /* closed before */ }
}
