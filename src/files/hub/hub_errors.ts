/**
 * Errors of the Hub: each refusal with its reason and its remedy.
 */
import { RemoteError, type RemoteErrorCode } from "../../base/errors.ts";
import { printable, quote } from "../../base/text.ts";
import type { Refusal } from "../http/host.ts";
import type { HubSettings } from "./hub_settings.ts";
import { describeRepo, formatHubName, type HubName } from "./hub_name.ts";

/** Explains a refusal of the Hub; null if it says nothing of its own. */
export function explainHub(
  { status, headers, text }: Refusal,
  name: HubName,
  { endpoint, token }: HubSettings,
): RemoteError | null {
  const path = formatHubName(name);
  const { repo, revision } = name;
  const what = describeRepo(repo);
  const page = `${endpoint}/${repo.kind === "models" ? "" : `${repo.kind}/`}${repo.id}`;
  const reason = headers.get("x-error-message") ?? text;
  const error = (code: RemoteErrorCode, why: string) =>
    new RemoteError(`Cannot open ${quote(path)}: ${why}`, { path, code, status });
  switch (headers.get("x-error-code")) {
    case "GatedRepo":
      return error(
        "Gated",
        token === null
          ? `the ${what} is gated: accept its conditions at ${page}, and set HF_TOKEN to a token of that account`
          : `the ${what} is gated, and the account of the token has no access: accept its conditions at ${page}`,
      );
    case "RevisionNotFound":
      return error("NotFound", `the ${what} has no revision ${quote(revision)}`);
    case "EntryNotFound":
      return error("NotFound", `the ${what} has no such file at revision ${quote(revision)}`);
    case "RepoNotFound":
      return error(
        "NotFound",
        token === null
          ? `the ${what} does not exist, or it is private: check the name; for a private one set HF_TOKEN`
          : `the ${what} does not exist, or it is private and the token gives no access: check the name and the token`,
      );
  }
  if (/access to this resource is disabled/i.test(reason)) {
    return error("AccessDenied", `the Hub has disabled the ${what}`);
  }
  if (/invalid (?:user|credentials|token)|expired/i.test(reason) && status === 401) {
    return error(
      "AccessDenied",
      "the Hub refuses the token, it is wrong or has expired: set HF_TOKEN to another one",
    );
  }
  if (status === 401) {
    return error(
      "AccessDenied",
      token === null
        ? `the ${what} does not exist, or it is private or gated: check the name, or set HF_TOKEN`
        : `the Hub refuses the token for the ${what}: set HF_TOKEN to one with access`,
    );
  }
  if (status === 403) {
    const said = reason.length > 0 && reason.length < 300 && !reason.startsWith("<")
      ? `, ${printable(reason.trim())}`
      : "";
    return error("AccessDenied", `the token gives no access to the ${what}${said}: use one that may read it`);
  }
  if (status === 404) return error("NotFound", `the ${what} does not exist: check the name`);
  return null;
}
