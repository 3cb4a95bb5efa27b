// Scenes of the npm package `@openrouter/sdk`, which checks every field of every answer.
import { OpenRouter } from "@openrouter/sdk";
import * as errors from "@openrouter/sdk/models/errors";
import { CITY, PAID, SAID, WEATHER, play } from "./harness.mjs";

const HELLO = { model: "auto", messages: [{ role: "user", content: SAID }] };
const TOOL = { type: "function", function: { name: "get_weather", parameters: CITY } };
const ASKING = { model: "auto", messages: [{ role: "user", content: WEATHER }], tools: [TOOL] };

const client = (address) => new OpenRouter({ serverURL: `${address}/api/v1`, apiKey: "unused", timeoutMs: 20_000 });
const chat = (address, chatRequest, options) => client(address).chat.send({ chatRequest }, options);

async function plain(address, told) {
  told.text = (await chat(address, HELLO)).choices[0].message.content;
}

// An error in the stream is no exception of this SDK but a field that it reads.
async function stream(address, told) {
  Object.assign(told, { text: "", pieces: 0 });
  for await (const chunk of await chat(address, { ...HELLO, stream: true })) {
    if (chunk.error) told.in_band = { code: chunk.error.code, text: chunk.error.message };
    const text = chunk.choices[0]?.delta?.content;
    told.text += text ?? "";
    told.pieces += text ? 1 : 0;
  }
}

async function tool(address, told) {
  const called = (await chat(address, ASKING)).choices[0].message.toolCalls[0].function;
  told.tool = [called.name, JSON.parse(called.arguments)];
}

async function toolStream(address, told) {
  let [name, text] = ["", ""];
  for await (const chunk of await chat(address, { ...ASKING, stream: true })) {
    for (const call of chunk.choices[0]?.delta?.toolCalls ?? []) {
      name += call.function?.name ?? "";
      text += call.function?.arguments ?? "";
    }
  }
  told.tool = [name, JSON.parse(text)];
}

async function abort(address, told) {
  for await (const chunk of await chat(address, { ...HELLO, stream: true })) {
    told.text = chunk.choices[0]?.delta?.content;
    if (told.text) break;
  }
}

async function refused(address) {
  await chat(address, { ...HELLO, model: PAID });
}

async function facts(address, told) {
  const wire = client(address);
  await wire.chat.send({ chatRequest: HELLO });
  const page = await wire.models.list();
  told.models = page.result.data.map((model) => model.id);
  told.more = (await page.next()) !== null;
  told.usage = (await wire.credits.getCredits()).data.totalUsage;
  const day = (await wire.apiKeys.getCurrentKeyMetadata()).data.freeModelDailyRequests;
  told.day = [day.used, day.limit - day.remaining];
}

async function responses(address, told) {
  const responsesRequest = { model: "auto", input: SAID };
  const { output } = await client(address).responses.send({ responsesRequest });
  told.text = output.find((item) => item.type === "message").content[0].text;
}

async function embeddings(address, told) {
  const requestBody = { model: "auto", input: ["one", "two"], dimensions: 4 };
  const reply = await client(address).embeddings.generate({ requestBody });
  told.vectors = reply.data.map((row) => row.embedding.length);
}

const SCENES = {
  plain, stream, tool, "tool-stream": toolStream, abort, error: plain, refused, spent: plain, wait: plain,
  minute: plain, broken: stream, cut: stream, facts, responses, embeddings,
};

const own = (error) => error instanceof errors.OpenRouterError || error instanceof errors.SDKValidationError;
await play("@openrouter/sdk", SCENES, own);
