// Scenes of the npm package `openai`.
import OpenAI, { APIError } from "openai";
import { CITY, PAID, SAID, WEATHER, play } from "./harness.mjs";

const HELLO = { model: "auto", messages: [{ role: "user", content: SAID }] };
const TOOL = { type: "function", function: { name: "get_weather", parameters: CITY } };
const ASKING = { model: "auto", messages: [{ role: "user", content: WEATHER }], tools: [TOOL] };
const SCHEMA = { name: "answer", strict: true, schema: { ...CITY, additionalProperties: false } };

const client = (address) => new OpenAI({ baseURL: `${address}/v1`, apiKey: "unused", timeout: 20_000 });
const chat = (address, body) => client(address).chat.completions.create(body);

async function plain(address, told) {
  told.text = (await chat(address, HELLO)).choices[0].message.content;
}

async function stream(address, told) {
  Object.assign(told, { text: "", pieces: 0 });
  for await (const chunk of await chat(address, { ...HELLO, stream: true })) {
    const text = chunk.choices[0]?.delta?.content;
    told.text += text ?? "";
    told.pieces += text ? 1 : 0;
  }
}

async function tool(address, told) {
  const called = (await chat(address, ASKING)).choices[0].message.tool_calls[0].function;
  told.tool = [called.name, JSON.parse(called.arguments)];
}

async function toolStream(address, told) {
  let [name, text] = ["", ""];
  for await (const chunk of await chat(address, { ...ASKING, stream: true })) {
    for (const call of chunk.choices[0]?.delta?.tool_calls ?? []) {
      name += call.function.name ?? "";
      text += call.function.arguments ?? "";
    }
  }
  told.tool = [name, JSON.parse(text)];
}

async function abort(address, told) {
  const chunks = await chat(address, { ...HELLO, stream: true });
  for await (const chunk of chunks) {
    told.text = chunk.choices[0]?.delta?.content;
    if (told.text) chunks.controller.abort();
  }
}

async function refused(address) {
  await chat(address, { ...HELLO, model: PAID });
}

async function parse(address, told) {
  const body = { ...HELLO, response_format: { type: "json_schema", json_schema: SCHEMA } };
  told.parsed = JSON.parse((await chat(address, body)).choices[0].message.content);
}

async function responses(address, told) {
  told.text = (await client(address).responses.create({ model: "auto", input: SAID })).output_text;
}

async function responsesStream(address, told) {
  Object.assign(told, { text: "", pieces: 0, events: [] });
  for await (const event of await client(address).responses.create({ model: "auto", input: SAID, stream: true })) {
    told.events.push(event.type);
    if (event.type !== "response.output_text.delta") continue;
    told.text += event.delta;
    told.pieces += 1;
  }
}

async function embeddings(address, told) {
  const reply = await client(address).embeddings.create({ model: "auto", input: ["one", "two"], dimensions: 4 });
  told.vectors = reply.data.map((row) => row.embedding.length);
}

const SCENES = {
  plain, stream, tool, "tool-stream": toolStream, abort, error: plain, refused, spent: plain, wait: plain,
  minute: plain, broken: stream, cut: stream, parse, responses, "responses-stream": responsesStream,
  "responses-broken": responsesStream, embeddings,
};

await play("openai", SCENES, (error) => error instanceof APIError);
