/**
 * The load suite and the other tests of CUDA on the stand-ins, with a shim under AddressSanitizer and
 * UndefinedBehaviorSanitizer, in a separate process.
 */
import { assert } from "@std/assert";
import { compiler } from "../support/compiler.ts";
import { suite } from "../support/skip.ts";

const FOLDER = new URL("./", import.meta.url).pathname;
const TESTS = [
  "load_suite_long",
  "tensors",
  "get_tensor",
  "places",
  "dlpack",
  "failures",
  "gds",
  "pinned_pool",
  "release",
  "stress",
];

const { path: cc, missing } = await compiler();

suite("the load suite on CUDA stand-ins under sanitizers", "cuda", missing, () => {
  Deno.test("the load suite on CUDA stand-ins passes under sanitizers [CUDA stand-in]", async () => {
    const decoder = new TextDecoder();
    const found = await new Deno.Command(cc, { args: ["-print-file-name=libasan.so"] }).output();
    const { success, code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--no-check", ...TESTS.map((name) => `${FOLDER}${name}_test.ts`)],
      env: {
        NO_COLOR: "1",
        FASTSAFETENSORS_TEST_REQUIRE: "",
        LD_PRELOAD: decoder.decode(found.stdout).trim(),
        // Memory that Deno holds until its end is not a leak; the stand-ins count unreleased device memory. A failed
        // allocation is an error of the shim, not of the process.
        ASAN_OPTIONS: "detect_leaks=0:handle_segv=0:allocator_may_return_null=1",
      },
    }).output();
    const printed = decoder.decode(new Uint8Array([...stdout, ...stderr]));
    assert(success, `deno test ended with status ${code}:\n${printed.slice(-20_000)}`);
    assert(/ok \| \d{3,} passed/.test(printed), `fewer tests than expected:\n${printed.slice(-2000)}`);
  });
});
