import { assertEquals, assertThrows } from "@std/assert";
import { launchPlace } from "../../../src/ranks/group/launcher.ts";
import { setEnv } from "../../support/environment.ts";

const NAMES = [
  "RANK",
  "WORLD_SIZE",
  "LOCAL_RANK",
  "MASTER_ADDR",
  "MASTER_PORT",
  "TORCHELASTIC_USE_AGENT_STORE",
  "TORCHELASTIC_RUN_ID",
  "OMPI_COMM_WORLD_RANK",
  "OMPI_COMM_WORLD_SIZE",
  "OMPI_COMM_WORLD_LOCAL_RANK",
  "FASTSAFETENSORS_GROUP_SECRET",
  "PMI_RANK",
  "PMI_SIZE",
  "MPI_LOCALRANKID",
];

/** Makes a test in which these variables alone are set. */
function launcherTest(name: string, variables: Record<string, string>, check: () => void): void {
  Deno.test(name, () => {
    using _ = setEnv({ ...Object.fromEntries(NAMES.map((name) => [name, undefined])), ...variables });
    check();
  });
}

const TORCHRUN = { RANK: "5", WORLD_SIZE: "8", LOCAL_RANK: "1", MASTER_ADDR: "host", MASTER_PORT: "29500" };

launcherTest("launchPlace() reads torchrun's variables", TORCHRUN, () => {
  const place = { rank: 5, size: 8, localRank: 1, address: "host", port: 29500, job: "", secret: "" };
  assertEquals(launchPlace(), place);
});

launcherTest("launchPlace() takes the secret of the option, else of the variable", {
  ...TORCHRUN,
  FASTSAFETENSORS_GROUP_SECRET: "from outside",
}, () => {
  assertEquals(launchPlace().secret, "from outside");
  assertEquals(launchPlace({ secret: "own" }).secret, "own");
  const wrong = 12345 as unknown as string;
  const { message } = assertThrows(
    () => launchPlace({ secret: wrong }),
    TypeError,
    "secret must be a string",
  );
  assertEquals(message.includes("12345"), false);
  assertThrows(() => launchPlace({ secret: "x".repeat(1025) }), RangeError, "at most 1024 characters");
});

launcherTest("launchPlace() keeps off the port of torchrun's own store", {
  ...TORCHRUN,
  TORCHELASTIC_USE_AGENT_STORE: "True",
  TORCHELASTIC_RUN_ID: "job-1",
}, () => {
  const { port, job } = launchPlace();
  assertEquals([port, job], [29501, "job-1"]);
  assertEquals(launchPlace({ port: 4000 }).port, 4000);
});

launcherTest("launchPlace() reads an MPI launcher's variables", {
  OMPI_COMM_WORLD_RANK: "1",
  OMPI_COMM_WORLD_SIZE: "2",
  OMPI_COMM_WORLD_LOCAL_RANK: "0",
}, () => {
  const place = launchPlace({ address: "::1", port: 5000 });
  const expected = { rank: 1, size: 2, localRank: 0, address: "::1", port: 5000, job: "", secret: "" };
  assertEquals(place, expected);
});

launcherTest("launchPlace() needs no address for a rank alone", {}, () => {
  assertEquals(launchPlace({ rank: 0, size: 1 }).size, 1);
});

launcherTest("launchPlace() says what is missing or wrong", { RANK: "2", WORLD_SIZE: "2" }, () => {
  assertThrows(() => launchPlace(), RangeError, "There is no rank 2 of 2");
  assertThrows(() => launchPlace({ rank: 1 }), TypeError, '"MASTER_ADDR" is not set');
  assertThrows(() => launchPlace({ rank: 1, address: "host" }), TypeError, '"MASTER_PORT"');
  assertThrows(() => launchPlace({ rank: 1, address: "host", port: 70000 }), RangeError, "70000");
  Deno.env.set("RANK", "x");
  assertThrows(() => launchPlace(), RangeError, '"RANK" must be a whole number, got "x"');
});
