// Keys and models one by one, with the operator's hand.
import { Empty, Hand, html, ModelName, Section, Standing } from "./pieces.js";
import { ago, count, milliseconds, NONE, percent } from "./format.js";

export const Keys = ({ keys, now, act, busy }) => html`
  <${Section} id="keys" title="Keys">
    ${keys.length === 0
      ? html`<${Empty}>No key is set. Set OPENROUTER_API_KEY (and OPENROUTER_API_KEY_2 …) and start the gateway again.</${Empty}>`
      : html`<div class="scroll"><table class="list">
        <thead><tr><th scope="col">Key</th><th scope="col">State</th><th scope="col" class="number">Attempts</th>
          <th scope="col" class="number">Succeeded</th><th scope="col" class="number">Failed, 5 min</th>
          <th scope="col" class="number">Answer p50</th><th scope="col">Last error</th><th scope="col"><span class="unseen">Actions</span></th></tr></thead>
        <tbody>${keys.map((key) => html`
          <tr key=${key.name} data-key=${key.name} data-state=${key.state}>
            <th scope="row">${key.name}<small>${key.account}</small></th>
            <td><${Standing} of=${key} now=${now} /></td>
            <td class="number">${count(key.attempts)}</td>
            <td class="number">${percent(key.success_rate)}</td>
            <td class="number">${count(key.window.failed)} of ${count(key.window.total)}</td>
            <td class="number">${milliseconds(key.latency_ms.p50)}</td>
            <td>${key.last_error ? html`${key.last_error}<small>${ago(now - key.last_error_at)} ago</small>` : NONE}</td>
            <td><${Hand} plural="keys" of=${key} act=${act} busy=${busy} /></td>
          </tr>`)}</tbody></table></div>`}
  </${Section}>`;

const TRAITS = { tools: "tools", image: "images", json_schema: "schema" };

export function Models({ models, now, act, busy }) {
  const slowest = Math.max(1, ...models.map((model) => model.ttft_ms.p50 ?? 0));
  const fastest = Math.max(1, ...models.map((model) => model.tokens_per_second ?? 0));
  return html`
    <${Section} id="models" title="Models" note="TTFT: time to the first content; the smallest score is chosen first">
      ${models.length === 0
        ? html`<${Empty}>No free model is known. Look at keywheel models --all for the reason of each.</${Empty}>`
        : html`<div class="scroll"><table class="list">
          <thead><tr><th scope="col">Model</th><th scope="col">State</th><th scope="col" class="number">Score</th>
            <th scope="col" class="number">TTFT p50</th><th scope="col" class="number">p95</th>
            <th scope="col" class="number">Tokens/s</th><th scope="col" class="number">Attempts</th><th scope="col" class="number">Succeeded</th>
            <th scope="col" class="number">Context</th><th scope="col"><span class="unseen">Actions</span></th></tr></thead>
          <tbody>${models.map((model) => html`
            <tr key=${model.id} data-model=${model.id} data-state=${model.state}>
              <th scope="row" title=${model.id}><${ModelName} id=${model.id} /><small>${traits(model)}</small></th>
              <td><${Standing} of=${model} now=${now} /></td>
              <td class="number" title=${score(model.parts)}>${model.score === null ? NONE : model.score.toFixed(2)}</td>
              <td class="number"><${Gauge} value=${model.ttft_ms.p50} most=${slowest} text=${milliseconds(model.ttft_ms.p50)} /></td>
              <td class="number">${milliseconds(model.ttft_ms.p95)}</td>
              <td class="number"><${Gauge} value=${model.tokens_per_second} most=${fastest}
                text=${model.tokens_per_second === null ? NONE : model.tokens_per_second.toFixed(0)} /></td>
              <td class="number">${count(model.attempts)}</td>
              <td class="number">${percent(model.success_rate)}</td>
              <td class="number">${count(model.context)}</td>
              <td><${Hand} plural="models" of=${model} act=${act} busy=${busy} /></td>
            </tr>`)}</tbody></table></div>`}
    </${Section}>`;
}

const traits = (model) =>
  [model.free ? null : "costs money", ...model.can.filter((one) => TRAITS[one]).map((one) => TRAITS[one])].filter(Boolean).join(" · ");

const score = (parts) =>
  parts && `ln(${parts.answer_s} s to an answer + ${parts.failures_s} s for failures) + ${parts.place} for its place`;

const Gauge = ({ value, most, text }) => html`<span class="gauge">${text}
  <i aria-hidden="true"><b style=${{ width: `${((value ?? 0) / most) * 100}%` }}></b></i></span>`;
