// Run in a folder where the npm package `openai` is installed: node openai_sdk.mjs BASE_URL
import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "unused" });
const hello = [{ role: "user", content: "Hello" }];
const tool = { type: "function", function: { name: "get_weather", parameters: { type: "object", properties: {} } } };

const plain = await client.chat.completions.create({ model: "auto", messages: hello });
assert.ok(plain.choices[0].message.content);

let text = "";
for await (const chunk of await client.chat.completions.create({ model: "auto", messages: hello, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.ok(text);

const weather = [{ role: "user", content: "Use the tool get_weather for Paris" }];
const called = await client.chat.completions.create({ model: "auto", messages: weather, tools: [tool] });
assert.equal(called.choices[0].message.tool_calls[0].function.name, "get_weather");

await assert.rejects(
  client.chat.completions.create({ model: "openai/gpt-4o", messages: hello }),
  (error) => error.status === 400 && error.code === "model_not_free",
);
console.log("ok");
