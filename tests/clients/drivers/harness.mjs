// Plays scenes with one SDK: see harness.py, whose lines these are.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

export const SAID = "Hello";
export const WEATHER = "Use the tool get_weather for Paris";
export const CITY = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const PAID = "openai/gpt-4o";

const say = (told) => process.stdout.write(`${JSON.stringify(told)}\n`);

// The version that is installed; packages do not export their package.json.
const versionOf = (name) => {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
};

// An SDK's error: its class and status, and what the body says of it.
export function describe(error) {
  const inner = innerOf(error);
  return {
    type: error.constructor.name,
    status: error.status ?? error.statusCode ?? null,
    kind: inner.type ?? null,
    codes: [inner.code ?? null, inner.metadata?.code ?? null, inner.metadata?.error_type ?? null],
    text: String(error.message).slice(0, 500),
  };
}

// The error object of a body, whose envelope some SDKs take off.
function innerOf(error) {
  const body = error.body ?? error.responseBody ?? error.error;
  const read = typeof body === "string" ? tryJson(body) : body;
  return read?.error ?? read ?? {};
}

function tryJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// Play what is asked for until the input ends. `own`: whether an error is the SDK's.
export async function play(name, scenes, own) {
  say({ version: versionOf(name) });
  for await (const line of createInterface({ input: process.stdin })) {
    const { scene, address } = JSON.parse(line);
    const told = {};
    try {
      await scenes[scene](address, told);
    } catch (error) {
      if (own(error)) told.raised = describe(error);
      else told.crashed = String(error?.stack ?? error);
    }
    say(told);
  }
}
