/**
 * One of two ranks that meet over TCP and end without leaving the group. Rank 1 sends a long reason just before its end.
 */
import { GroupError } from "../../../src/base/errors.ts";
import { recordOf } from "../../../src/ranks/group/call_record.ts";
import { launchPlace } from "../../../src/ranks/group/launcher.ts";
import { meetOverTcp } from "../../../src/ranks/group/tcp_meeting.ts";
import { say } from "./say.ts";

const place = launchPlace();
const control = await meetOverTcp(place, 60);
if (place.rank === 1) {
  const reason = "x".repeat(8_000_000); // more than the buffers of a connection take at once
  void control.fail(new GroupError(`Rank 1 failed: ${reason}`, 1, reason));
} else {
  const { message } = await control.meet(recordOf("barrier", 0)).then(() => null, (error) => error);
  say({ rank: 0, start: message.slice(0, 16), length: message.length });
}
