// Runs named checks in order and prints one JSON line for each: {"check", "error"}; error is null when it holds.
import { readFileSync } from "node:fs";

const LIMIT_MS = 30_000;
const checks = [];

export const given = JSON.parse(readFileSync(0, "utf8"));

export function check(name, body) {
  checks.push([name, body]);
}

/** Rejects when `promise` has not settled in time: a check that hangs must not hide the others. */
export function within(promise, what, limit = LIMIT_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${limit} ms`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The error that `promise` must end with. */
export async function failure(promise) {
  const value = await promise.then((result) => ({ result }), (error) => ({ error }));
  if (!("error" in value)) throw new Error(`expected a failure, got ${String(value.result)}`);
  return value.error;
}

export async function run() {
  for (const [name, body] of checks) {
    let error = null;
    try {
      await within(Promise.resolve().then(body), name);
    } catch (caught) {
      error = caught?.stack ?? String(caught);
    }
    process.stdout.write(JSON.stringify({ check: name, error }) + "\n");
  }
  process.exit(0);
}
