/**
 * Opens models on a server of the tests through the lanes.
 */
import { fastsafeOpen } from "@x/fastsafetensors";
import { findCurl } from "../../ffi/net.ts";
import { openLibrary } from "../../ffi/library.ts";
import type { LoadedTensor } from "../../src/device/tensors.ts";
import type { DeviceOption } from "../../src/base/device_name.ts";
import type { FloatDType } from "../../src/base/dtype.ts";
import { openModel } from "../../src/deno/open_model.ts";
import type { OpenOptions } from "../../src/deno/options.ts";
import { selectDevice } from "../../src/deno/select_device.ts";
import { HttpClient } from "../../src/files/http/client.ts";
import type { NetworkHost } from "../../src/files/http/host.ts";
import { HttpSource } from "../../src/files/http/http_source.ts";
import { labelOf } from "../../src/files/http/labels.ts";
import type { RemoteAddress } from "../../src/files/http/remote_file.ts";
import { NativeHttpSource } from "../../src/files/native/http_file.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import type { SafeTensorsModel } from "../../src/model/model.ts";

/** Why lanes cannot read from servers here, or null. */
export async function missingCurl(): Promise<string | null> {
  const { shim } = await openLibrary();
  if (!shim) return "there is no native library";
  const curl = await findCurl(shim);
  return curl.path === null ? `libcurl is not available: ${curl.reason}` : null;
}

/** A host without pauses. */
const HOST: NetworkHost = {
  fetch: (url, init) => fetch(url, init),
  checkAccess: () => {},
  pause: () => Promise.resolve(),
  retain: () => {},
  release: () => {},
};

/** Options of a model on a server. */
export interface RemoteOptions<D extends DeviceOption, T extends FloatDType>
  extends Omit<OpenOptions<D, T>, "source"> {
  readonly headers?: Readonly<Record<string, string>>;
  readonly retries?: number;
  readonly timeoutSeconds?: number;
  /** Returns the address to ask now, in place of the URL and the headers. */
  readonly locate?: () => Promise<RemoteAddress>;
}

/** Opens the models of URLs: their bytes come through lanes where libcurl is available. */
export async function openRemote<D extends DeviceOption = "cpu", T extends FloatDType = FloatDType>(
  urls: string | readonly string[],
  { headers = {}, retries = 3, timeoutSeconds = 60, locate, ...options }: RemoteOptions<D, T> = {},
): Promise<SafeTensorsModel<LoadedTensor<D, T>>> {
  if (!locate) {
    const network = { headers, retries, timeoutSeconds };
    return await fastsafeOpen([urls].flat(), { ...options, network } as OpenOptions<D, T>);
  }
  const { shim } = await openLibrary();
  const context = {
    client: new HttpClient(HOST),
    limits: { retries, timeoutSeconds },
    signal: new AbortController().signal,
  };
  const http = new HttpSource(context, (url) => ({
    path: labelOf(url),
    locate,
  }));
  const source = new NativeHttpSource(shim!, http, "cpu");
  const model = await openModel(urls, { ...options, source } as OpenOptions, {
    call: "openRemote()",
    select: async (checked) => {
      const engine = await selectEngine();
      const device = await selectDevice(checked.device, engine, checked);
      return {
        device,
        findDevice: (name) => selectDevice(name, engine, checked),
        source,
        notes: engine.notes,
      };
    },
  });
  return model as unknown as SafeTensorsModel<LoadedTensor<D, T>>;
}
