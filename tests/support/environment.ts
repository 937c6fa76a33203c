/** Temporary changes of environment variables. */

/** Sets environment variables, or deletes those that are undefined; disposing the result restores them. */
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
