/**
 * Selections of tensors by name: whole names, patterns, regular expressions, functions.
 */
import { STEP, type Steps } from "./steps.ts";
import { describeValue, printable } from "./text.ts";

/**
 * Names of tensors: a name, a pattern in which `*` matches any characters, a RegExp, a list of these, or a function that
 * returns true for the names that it selects. A pattern must match the whole name, a RegExp any part of it.
 */
export type TensorNames = string | RegExp | Iterable<string | RegExp> | ((name: string) => boolean);

/** A part of a selection that must select something. */
export interface NameRule {
  /** The name or the pattern, for messages. */
  readonly text: string;
  /** Whether it is a whole name. */
  readonly isName: boolean;
  /** Whether it selects a name. */
  matches(name: string): boolean;
}

/** A checked selection. */
export interface NameSelection {
  /** The parts of the selection that must select something: none of a function. */
  readonly rules: readonly NameRule[];
  /** Whether the selection has a name. */
  has(name: string): boolean;
}

/**
 * Checks a selection.
 *
 * @param what the name of the argument
 * @throws {TypeError} if it is none, or has a part that is none
 */
export function checkNames(what: string, names: unknown): NameSelection {
  if (typeof names === "function") {
    const select = names as (name: string) => unknown;
    return { rules: [], has: (name) => Boolean(select(name)) };
  }
  const one = typeof names === "string" || names instanceof RegExp;
  if (!one && !(typeof names === "object" && names !== null && Symbol.iterator in names)) {
    throw wrongNames(what, names);
  }
  const rules: NameRule[] = [];
  const whole = new Set<string>();
  for (const part of one ? [names] : names as Iterable<unknown>) {
    if (part instanceof RegExp) rules.push(expressionRule(part));
    else if (typeof part !== "string") throw wrongNames(what, names, part);
    else if (part.includes("*")) rules.push(patternRule(part));
    else if (!whole.has(part)) {
      whole.add(part);
      rules.push({ text: part, isName: true, matches: (name) => name === part });
    }
  }
  const patterns = rules.filter(({ isName }) => !isName);
  return { rules, has: (name) => whole.has(name) || patterns.some((pattern) => pattern.matches(name)) };
}

/** Finds a part of a selection that selects none of the names. */
export function* unmatchedSteps(
  { rules }: NameSelection,
  names: { has(name: string): boolean; keys(): Iterable<string> },
): Steps<NameRule | undefined> {
  let step = 0;
  rules: for (const rule of rules) {
    if (++step % STEP === 0) yield;
    if (names.has(rule.text)) continue;
    if (rule.isName) return rule;
    for (const name of names.keys()) {
      if (++step % STEP === 0) yield;
      if (rule.matches(name)) continue rules;
    }
    return rule;
  }
  return undefined;
}

/**
 * Whether a name consists of the pieces of a pattern with any characters between them. A RegExp is too slow for 100,000
 * names.
 */
export function matchesPattern(pieces: readonly string[], name: string): boolean {
  const first = pieces[0]!;
  const last = pieces.at(-1)!;
  if (pieces.length === 1) return name === first;
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last)) {
    return false;
  }
  let at = first.length;
  const end = name.length - last.length;
  for (const piece of pieces.slice(1, -1)) {
    const found = name.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}

function patternRule(pattern: string): NameRule {
  const pieces = pattern.split("*");
  return { text: pattern, isName: false, matches: (name) => matchesPattern(pieces, name) };
}

function expressionRule(expression: RegExp): NameRule {
  // With the flags g and y each test would begin where the last one ended.
  const own = new RegExp(expression.source, expression.flags.replace(/[gy]/g, ""));
  return { text: printable(String(expression)), isName: false, matches: (name) => own.test(name) };
}

function wrongNames(what: string, names: unknown, part?: unknown): TypeError {
  const found = part === undefined ? describeValue(names) : `a list with ${describeValue(part)}`;
  return new TypeError(
    `${what} must be a name, a pattern with *, a RegExp, a list of these, or a function, got ${found}`,
  );
}
