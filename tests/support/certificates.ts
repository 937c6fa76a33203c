/**
 * Certificates of the tests: an authority of their own, and a server's certificate that it has signed.
 */

/** Paths of the files. */
export interface Certificates {
  /** The certificate of the authority. */
  readonly authority: string;
  /** The certificate of the server 127.0.0.1 and localhost. */
  readonly certificate: string;
  readonly key: string;
}

/** The reason that no certificates can be made; null if they can. */
export function whyNoCertificates(): string | null {
  try {
    new Deno.Command("openssl", { args: ["version"], stdout: "null", stderr: "null" }).outputSync();
    return null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no openssl";
    throw error;
  }
}

/** Makes certificates in a folder, with the program openssl. */
export async function makeCertificates(folder: string): Promise<Certificates> {
  const [authority, authorityKey, certificate, key, request, names] = [
    "ca.pem",
    "ca.key",
    "leaf.pem",
    "leaf.key",
    "leaf.csr",
    "names",
  ].map((name) => `${folder}/${name}`) as [string, string, string, string, string, string];
  await Deno.writeTextFile(names, "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n");
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
  await openssl(
    "req",
    "-x509",
    ...newKey,
    "-keyout",
    authorityKey,
    "-out",
    authority,
    "-days",
    "2",
    "-subj",
    "/CN=test",
  );
  await openssl("req", ...newKey, "-keyout", key, "-out", request, "-subj", "/CN=localhost");
  const signing = [
    "-CA",
    authority,
    "-CAkey",
    authorityKey,
    "-CAcreateserial",
    "-days",
    "2",
    "-extfile",
    names,
  ];
  await openssl("x509", "-req", "-in", request, "-out", certificate, ...signing);
  return { authority, certificate, key };
}

async function openssl(...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", { args, stdout: "null", stderr: "piped" })
    .output();
  if (!success) throw new Error(new TextDecoder().decode(stderr));
}
