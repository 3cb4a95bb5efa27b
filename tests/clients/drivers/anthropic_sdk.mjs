// Scenes of the npm package `@anthropic-ai/sdk`.
import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { CITY, PAID, SAID, WEATHER, play } from "./harness.mjs";

const HELLO = { model: "auto", max_tokens: 256, messages: [{ role: "user", content: SAID }] };
const TOOLS = [{ name: "get_weather", input_schema: CITY }];
const ASKING = { ...HELLO, messages: [{ role: "user", content: WEATHER }], tools: TOOLS };

const client = (address) => new Anthropic({ baseURL: address, authToken: "unused", apiKey: null, timeout: 20_000 });
const textOf = (message) => message.content.filter((b) => b.type === "text").map((b) => b.text).join("");

function callOf(message) {
  const block = message.content.find((each) => each.type === "tool_use");
  return [block.name, block.input];
}

async function plain(address, told) {
  told.text = textOf(await client(address).messages.create(HELLO));
}

async function stream(address, told) {
  Object.assign(told, { text: "", pieces: 0, events: [] });
  for await (const event of await client(address).messages.create({ ...HELLO, stream: true })) {
    told.events.push(event.type);
    if (event.delta?.type !== "text_delta") continue;
    told.text += event.delta.text;
    told.pieces += 1;
  }
}

async function tool(address, told) {
  const message = await client(address).messages.create(ASKING);
  Object.assign(told, { tool: callOf(message), stopped: message.stop_reason });
}

async function toolStream(address, told) {
  told.tool = callOf(await client(address).messages.stream(ASKING).finalMessage());
}

async function abort(address, told) {
  const events = await client(address).messages.create({ ...HELLO, stream: true });
  for await (const event of events) {
    if (event.delta?.type !== "text_delta") continue;
    told.text = event.delta.text;
    events.controller.abort();
  }
}

async function refused(address) {
  await client(address).messages.create({ ...HELLO, model: PAID });
}

async function withApiKey(address, told) {
  const wire = new Anthropic({ baseURL: address, apiKey: "unused" });
  told.text = textOf(await wire.messages.create(HELLO));
}

const SCENES = {
  plain, stream, tool, "tool-stream": toolStream, abort, error: plain, refused, spent: plain, wait: plain,
  minute: plain, broken: stream, cut: stream, events: stream, "api-key": withApiKey,
};

await play("@anthropic-ai/sdk", SCENES, (error) => error instanceof APIError);
