/** Environment variables of this process, for a while. */

/** Sets environment variables, or takes away those that are undefined; as before once the result is disposed. */
export function setEnv(variables: Readonly<Record<string, string | undefined>>): Disposable {
  const put = (values: Iterable<readonly [string, string | undefined]>) => {
    for (const [name, value] of values) {
      if (value === undefined) Deno.env.delete(name);
      else Deno.env.set(name, value);
    }
  };
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  put(Object.entries(variables));
  return { [Symbol.dispose]: () => put(before) };
}
