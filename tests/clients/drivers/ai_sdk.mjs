// Scenes of the npm packages `ai` and `@openrouter/ai-sdk-provider`.
import { createOpenRouter } from "@openrouter/ai-sdk-provider";
import { APICallError, RetryError, generateObject, generateText, jsonSchema, streamText, tool as asTool } from "ai";
import { CITY, PAID, SAID, WEATHER, describe, play } from "./harness.mjs";

const TOOLS = { get_weather: asTool({ inputSchema: jsonSchema(CITY) }) };

const model = (address, name = "auto") =>
  createOpenRouter({ baseURL: `${address}/api/v1`, apiKey: "unused" })(name);

async function plain(address, told) {
  told.text = (await generateText({ model: model(address), prompt: SAID })).text;
}

// Errors of a stream are parts of it.
async function stream(address, told) {
  Object.assign(told, { text: "", pieces: 0 });
  const streamed = streamText({ model: model(address), prompt: SAID, onError: () => {} });
  for await (const part of streamed.fullStream) {
    if (part.type === "error") told.raised = describe(Object(part.error));
    if (part.type !== "text-delta") continue;
    told.text += part.text;
    told.pieces += 1;
  }
}

async function tool(address, told) {
  const { toolCalls } = await generateText({ model: model(address), prompt: WEATHER, tools: TOOLS });
  told.tool = [toolCalls[0].toolName, toolCalls[0].input];
}

async function toolStream(address, told) {
  const streamed = streamText({ model: model(address), prompt: WEATHER, tools: TOOLS });
  for await (const part of streamed.fullStream) {
    if (part.type === "tool-call") told.tool = [part.toolName, part.input];
  }
}

async function abort(address, told) {
  const controller = new AbortController();
  const streamed = streamText({ model: model(address), prompt: SAID, abortSignal: controller.signal });
  for await (const part of streamed.fullStream) {
    if (part.type !== "text-delta") continue;
    told.text = part.text;
    controller.abort();
  }
}

async function refused(address) {
  await generateText({ model: model(address, PAID), prompt: SAID });
}

async function parse(address, told) {
  const schema = jsonSchema({ ...CITY, additionalProperties: false });
  told.parsed = (await generateObject({ model: model(address), prompt: SAID, schema })).object;
}

// The last of the SDK's own tries says what was the matter.
function unwrapped(scene) {
  return async (address, told) => {
    try {
      await scene(address, told);
    } catch (error) {
      throw RetryError.isInstance(error) ? error.lastError : error;
    }
  };
}

const SCENES = {
  plain, stream, tool, "tool-stream": toolStream, abort, error: plain, refused, spent: unwrapped(plain),
  wait: plain, minute: plain, broken: stream, cut: stream, parse,
};

await play("ai", SCENES, (error) => APICallError.isInstance(error));
