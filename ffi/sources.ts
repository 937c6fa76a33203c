/**
 * The C sources of the shim as text, so that a package that came over https can build them too.
 */
import castC from "../native/cast.c" with { type: "text" };
import castH from "../native/cast.h" with { type: "text" };
import castX86H from "../native/cast_x86.h" with { type: "text" };
import convertH from "../native/kernels/convert.h" with { type: "text" };
import dtypeH from "../native/dtype.h" with { type: "text" };
import faultsC from "../native/faults.c" with { type: "text" };
import faultsH from "../native/faults.h" with { type: "text" };
import fileC from "../native/file.c" with { type: "text" };
import fstH from "../native/fst.h" with { type: "text" };
import laneC from "../native/lane.c" with { type: "text" };
import laneH from "../native/lane.h" with { type: "text" };
import landHostC from "../native/land_host.c" with { type: "text" };
import memoryC from "../native/memory.c" with { type: "text" };
import memoryH from "../native/memory.h" with { type: "text" };
import planC from "../native/plan.c" with { type: "text" };
import planH from "../native/plan.h" with { type: "text" };
import readC from "../native/read.c" with { type: "text" };

/** File name below native/ → text. */
export const SOURCES: Readonly<Record<string, string>> = {
  "cast.c": castC,
  "cast.h": castH,
  "cast_x86.h": castX86H,
  "kernels/convert.h": convertH,
  "dtype.h": dtypeH,
  "faults.c": faultsC,
  "faults.h": faultsH,
  "file.c": fileC,
  "fst.h": fstH,
  "lane.c": laneC,
  "lane.h": laneH,
  "land_host.c": landHostC,
  "memory.c": memoryC,
  "memory.h": memoryH,
  "plan.c": planC,
  "plan.h": planH,
  "read.c": readC,
};
