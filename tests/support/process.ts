/**
 * The resources of this process, as the kernel counts them.
 */
import process from "node:process";

/** The targets of the open descriptors: paths, and names such as "socket:[7]". */
export function openTargets(): string[] {
  const targets = [];
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      targets.push(Deno.readLinkSync(`/proc/self/fd/${name}`));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // the descriptor of this listing
    }
  }
  return targets;
}

/** Open descriptors of files below a folder. */
export function openDescriptors(folder: string): number {
  const below = `${Deno.realPathSync(folder)}/`;
  return openTargets().filter((target) => target.startsWith(below)).length;
}

/** Threads. */
export function threadCount(): number {
  return [...Deno.readDirSync("/proc/self/task")].length;
}

/** Milliseconds that this process has kept processors busy: other processes change nothing of it. */
export function processorTime(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Bytes that this process has read from files since its start, cached or not. */
export function bytesRead(): number {
  return Number(/^rchar: (\d+)$/m.exec(Deno.readTextFileSync("/proc/self/io"))![1]);
}

/** Bytes of a range of memory, or of all memory, with a request for huge pages. */
export function advisedBytes(start = 0, length = Infinity): number {
  let bytes = 0;
  let range: [number, number] | undefined;
  for (const line of Deno.readTextFileSync("/proc/self/smaps").split("\n")) {
    const found = /^([0-9a-f]+)-([0-9a-f]+) /.exec(line);
    if (found) range = [Number.parseInt(found[1]!, 16), Number.parseInt(found[2]!, 16)];
    if (!/^VmFlags:.* hg( |$)/.test(line)) continue;
    bytes += Math.max(0, Math.min(range![1], start + length) - Math.max(range![0], start));
  }
  return bytes;
}
