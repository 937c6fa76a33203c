/**
 * nginx, the server of a Debian package, with a configuration of the test.
 */
import type { Certificates } from "./certificates.ts";

/** The places where Debian and other systems have it. */
const PROGRAMS = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];

function program(): string | null {
  return PROGRAMS.find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  }) ?? null;
}

/** The reason that nginx cannot run; null if it can. */
export function whyNoNginx(): string | null {
  return program() === null ? "there is no nginx" : null;
}

/** A running nginx. */
export interface Nginx extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly http: string;
  /** `https://127.0.0.1:PORT`, also over HTTP/2 */
  readonly https: string;
  /** The requests so far: `GET /path HTTP/1.1 206`. */
  requests(): Promise<string[]>;
}

/**
 * Starts nginx, which serves the files below `root`.
 *
 * @param folder for its own files
 * @param locations more of the configuration of its server; HTTP_PORT stands for the port
 */
export async function startNginx(
  folder: string,
  root: string,
  certificates: Certificates | null,
  locations = "",
): Promise<Nginx> {
  for (let attempt = 0;; attempt++) {
    const [http, https] = freePorts();
    await Deno.writeTextFile(
      `${folder}/nginx.conf`,
      `daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
      events { worker_connections 256; }
      http {
        log_format short '$request $status';
        access_log ${folder}/access.log short;
        client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3;
        uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
        types { } default_type application/octet-stream;
        server {
          listen 127.0.0.1:${http};
          ${certificates ? `listen 127.0.0.1:${https} ssl http2;` : ""}
          ${
        certificates
          ? `ssl_certificate ${certificates.certificate}; ssl_certificate_key ${certificates.key};`
          : ""
      }
          root ${root};
          ${locations.replaceAll("HTTP_PORT", String(http))}
        }
      }`,
    );
    const args = ["-c", `${folder}/nginx.conf`, "-p", folder, "-e", `${folder}/error.log`];
    const process = new Deno.Command(program()!, { args, stdout: "null", stderr: "piped" }).spawn();
    const stderr = new Response(process.stderr).text();
    let hasEnded = false;
    process.status.then(() => hasEnded = true);
    if (await answers(http, () => hasEnded)) {
      return {
        http: `http://127.0.0.1:${http}`,
        https: `https://127.0.0.1:${https}`,
        requests: async () => (await Deno.readTextFile(`${folder}/access.log`)).trim().split("\n"),
        async [Symbol.asyncDispose]() {
          process.kill("SIGQUIT");
          await process.status;
          await stderr;
        },
      };
    }
    const reason = await stderr;
    if (attempt === 5) throw new Error(`Cannot start nginx: ${reason}`);
  }
}

/** Two ports that are free now; another program can take them meanwhile, then nginx is started again. */
function freePorts(): [number, number] {
  using one = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  using other = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return [(one.addr as Deno.NetAddr).port, (other.addr as Deno.NetAddr).port];
}

/** Waits until the port takes connections; false if the server has ended. */
async function answers(port: number, hasEnded: () => boolean): Promise<boolean> {
  while (!hasEnded()) {
    try {
      (await Deno.connect({ hostname: "127.0.0.1", port })).close();
      return true;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
  return false;
}
