/**
 * A stand-in of a service of the S3 interface. It computes the signature of each request itself, by Node's crypto, from
 * what has arrived, and checks its region, its key, its token and its time.
 */
import { createHash, createHmac } from "node:crypto";
import { FaultyServer, type Received, type Reply, type ServedFiles, usualReply } from "./faulty_server.ts";

/** A bucket. */
export interface ServedBucket {
  readonly region: string;
  readonly objects: ServedFiles;
  /** Whether requests without a signature are allowed. */
  readonly isPublic?: boolean;
}

/** A key of the stand-in. */
export interface ServedKey {
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

/** A running stand-in, with buckets in the path. */
export class S3Server implements AsyncDisposable {
  readonly http: FaultyServer;
  readonly buckets: Record<string, ServedBucket>;
  readonly keys: Record<string, ServedKey>;
  /** Objects of one page of a list. */
  pageObjects = 1000;
  /** The signatures made before this time have expired. */
  validFrom = 0;

  constructor(buckets: Record<string, ServedBucket>, keys: Record<string, ServedKey>) {
    this.buckets = buckets;
    this.keys = keys;
    this.http = new FaultyServer({}, (request) => this.#answer(request));
  }

  get endpoint(): string {
    return this.http.url("").replace(/\/$/, "");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.http[Symbol.asyncDispose]();
  }

  #answer(request: Received): Reply {
    const url = new URL(request.target, this.endpoint);
    const [, name, key = ""] = /^\/([^/]+)(?:\/(.*))?$/.exec(url.pathname)!;
    const bucket = this.buckets[name!];
    if (!bucket) return failure(404, "NoSuchBucket");
    const denied = url.searchParams.has("X-Amz-Signature")
      ? this.#check(url, request, bucket)
      : bucket.isPublic
      ? null
      : failure(403, "AccessDenied");
    if (denied) return denied;
    if (url.searchParams.get("list-type") === "2") return this.#list(bucket, url.searchParams);
    const object = bucket.objects[decodeURIComponent(key)];
    if (!object) return failure(404, "NoSuchKey");
    return usualReply({ "/x": object }, { ...request, target: "/x" });
  }

  /** The refusal of a signed request; null if the signature is right. */
  #check(url: URL, { target, headers }: Received, { region }: ServedBucket): Reply | null {
    const query = url.searchParams;
    const [id, date, signedRegion, service, end] = query.get("X-Amz-Credential")!.split("/") as string[];
    if (signedRegion !== region) {
      const region_ = { "x-amz-bucket-region": region };
      return region.startsWith("eu-")
        ? failure(301, "PermanentRedirect", `<Endpoint>s3.${region}.amazonaws.com</Endpoint>`, region_)
        : failure(400, "AuthorizationQueryParametersError", `<Region>${region}</Region>`);
    }
    const known = this.keys[id!];
    if (!known) return failure(403, "InvalidAccessKeyId");
    if ((known.sessionToken ?? null) !== query.get("X-Amz-Security-Token")) {
      return failure(403, "InvalidToken");
    }
    const [path, raw = ""] = target.split("?") as [string, string?];
    const canonical = raw.split("&").filter((part) => !part.startsWith("X-Amz-Signature=")).sort().join("&");
    const request = ["GET", path, canonical, `host:${headers.get("host")}`, "", "host", "UNSIGNED-PAYLOAD"]
      .join("\n");
    const time = query.get("X-Amz-Date")!;
    const hash = createHash("sha256").update(request).digest("hex");
    const text = ["AWS4-HMAC-SHA256", time, `${date}/${region}/${service}/${end}`, hash].join("\n");
    const hmac = (key: string | Uint8Array, part: string) => createHmac("sha256", key).update(part).digest();
    const day = hmac(`AWS4${known.secretAccessKey}`, date!);
    const signing = hmac(hmac(hmac(day, region), service!), end!);
    if (hmac(signing, text).toString("hex") !== query.get("X-Amz-Signature")) {
      return failure(403, "SignatureDoesNotMatch");
    }
    const [, ...digits] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(time)!.map(Number) as [
      number,
      ...number[],
    ];
    const [year, month, ...rest] = digits as [number, number, number, number, number, number];
    if (Date.UTC(year, month - 1, ...rest) < this.validFrom) {
      return failure(403, "AccessDenied", "<Message>Request has expired</Message>");
    }
    return null;
  }

  #list({ objects }: ServedBucket, query: URLSearchParams): Reply {
    const prefix = query.get("prefix") ?? "";
    const keys = Object.keys(objects).filter((key) => key.startsWith(prefix)).sort();
    const start = Number(query.get("continuation-token")?.replace("+/=", "") ?? 0);
    const stop = start + this.pageObjects;
    const encoded = (key: string) => encodeURIComponent(key).replaceAll("%20", "+").replaceAll("%2F", "/");
    const contents = keys.slice(start, stop).map((key) =>
      `<Contents><Key>${encoded(key)}</Key><Size>${
        objects[key]!.length
      }</Size><ETag>&quot;e&quot;</ETag></Contents>`
    );
    const more = stop < keys.length;
    const next = more ? `<NextContinuationToken>${stop}+/=</NextContinuationToken>` : "";
    const xml = `<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">` +
      `<EncodingType>url</EncodingType><IsTruncated>${more}</IsTruncated>${
        contents.join("")
      }${next}</ListBucketResult>`;
    return { body: new TextEncoder().encode(xml), headers: { "content-type": "application/xml" } };
  }
}

function failure(status: number, code: string, more = "", headers: Record<string, string> = {}): Reply {
  return { status, headers, body: new TextEncoder().encode(`<Error><Code>${code}</Code>${more}</Error>`) };
}
