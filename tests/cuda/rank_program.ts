/**
 * One of two ranks over the stand-in for NCCL. It releases device memory during a broadcast, and reports the result.
 * Arguments: the event ("lost": rank 1's part of the broadcast fails, "given": nothing), and a folder.
 */
import { fastsafeOpen, serialize } from "../../mod.ts";
import { NcclGroup } from "../../src/ranks/mod.ts";
import { say } from "../ranks/group/say.ts";

const [mode, folder] = Deno.args as [string, string];
const rank = Number(Deno.env.get("RANK"));
const BYTES = 100_000;

const sim = Deno.dlopen(Deno.env.get("FASTSAFETENSORS_CUDART_LIB")!, {
  fst_sim_violations: { parameters: [], result: "u64" },
  fst_sim_report: { parameters: ["buffer", "usize"], result: "i32" },
}).symbols;

/** A tensor on the device with the only reference to its memory. */
async function tensorOf(name: string) {
  const path = `${folder}/${rank}-${name}.safetensors`;
  await Deno.writeFile(
    path,
    serialize({ x: { dtype: "U8", shape: [BYTES], data: new Uint8Array(BYTES).fill(rank + 1) } }),
  );
  await using model = await fastsafeOpen(path, { device: "cuda:0" });
  return await model.getTensor("x");
}

const group = await NcclGroup.create({ device: 0, timeoutSeconds: 2 });
const moved = await tensorOf("moved"), other = await tensorOf("other");
if (mode === "lost" && rank === 1) Deno.env.set("FST_SIM_NCCL_FAIL", "1");

const block = { devicePointer: moved.devicePointer, byteLength: BYTES, device: 0 };
const done = group.broadcast(block, 0, "x").then(() => "", (error) => error.name);
if (mode === "given") moved[Symbol.dispose]();
let ticks = 0;
const timer = setInterval(() => {
  if (++ticks === 2) other[Symbol.dispose](); // the kernel of the broadcast is running or will run soon
}, 5);
const error = await done;
while (ticks < 2) await new Promise((resolve) => setTimeout(resolve, 5));
clearInterval(timer);
await group.close();
const report = new Uint8Array(65536);
const length = sim.fst_sim_report(report, 65536n);
const { violations } = JSON.parse(new TextDecoder().decode(report.subarray(0, length)));
say({ rank, error, violations: Number(sim.fst_sim_violations()), kinds: violations.kinds });
