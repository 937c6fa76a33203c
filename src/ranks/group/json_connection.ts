/**
 * JSON messages over a TCP connection, each after its length in 4 bytes.
 */

/** Longest message, in bytes: gathered values are small, and the first bytes of another protocol can mean any length. */
const MOST_BYTES = 16 * 2 ** 20;
/** Time, in milliseconds, in which the other side can read the last messages of a closed connection. */
const LINGER_MS = 1000;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A TCP connection that sends and receives JSON. */
export class JsonConnection {
  readonly #connection: Deno.TcpConn;
  #sending: Promise<void> = Promise.resolve();
  #listening: Promise<void> = Promise.resolve();

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
    connection.setNoDelay(true);
  }

  /** Sends a message after the earlier ones. Without effect if the connection has ended. */
  send(message: object): Promise<void> {
    const text = encoder.encode(JSON.stringify(message));
    const frame = new Uint8Array(4 + text.byteLength);
    new DataView(frame.buffer).setUint32(0, text.byteLength);
    frame.set(text, 4);
    return this.#sending = this.#sending.then(async () => {
      for (let sent = 0; sent < frame.byteLength;) sent += await this.#connection.write(frame.subarray(sent));
    }).catch(() => {});
  }

  /** Receives one message. Throws at the end of the connection, and if the message is too long or not JSON. */
  async receive(mostBytes = MOST_BYTES): Promise<unknown> {
    const length = new DataView((await this.#read(4)).buffer).getUint32(0);
    if (length > mostBytes) throw new RangeError(`A message of ${length} bytes is too long`);
    return JSON.parse(decoder.decode(await this.#read(length)));
  }

  /** Receives messages until the connection ends. Meanwhile it does not keep the process from ending. */
  listen(take: (message: unknown) => void): Promise<void> {
    this.#connection.unref();
    const receiveAll = async () => {
      for (;;) take(await this.receive());
    };
    return this.#listening = receiveAll().catch(() => {});
  }

  /** Closes the connection after the other side has received all messages and has closed it too. */
  async close(): Promise<void> {
    await this.#sending;
    await this.#connection.closeWrite().catch(() => {});
    const timer = setTimeout(() => this.drop(), LINGER_MS);
    await this.#listening;
    clearTimeout(timer);
    this.drop();
  }

  /** Closes the connection at once. */
  drop(): void {
    this.#connection[Symbol.dispose](); // unlike close(), it can be repeated
  }

  async #read(length: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(length);
    for (let got = 0; got < length;) {
      const count = await this.#connection.read(bytes.subarray(got));
      if (count === null) throw new Deno.errors.UnexpectedEof("The connection has ended");
      got += count;
    }
    return bytes;
  }
}
