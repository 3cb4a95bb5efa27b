// What happened over days, as it is kept: sums by key, model, client or day.
import { Bars } from "./bars.js";
import { Empty, html, Section } from "./pieces.js";
import { count, milliseconds, moment, percent } from "./format.js";

const DAY = 86_400; // seconds
// Words, and whole UTC days before today.
const SPANS = { today: ["Today", 0], week: ["7 days", 6], month: ["30 days", 29] };
const BY = { key: "Key", model: "Model", client: "Client", day: "Day" };
const NAMES = { day: (at) => new Date(at * 1000).toISOString().slice(0, 10), client: (name) => name || "not told apart" };

// Since when, in UTC seconds.
export const since = (span, now) => Math.floor(now / DAY) * DAY - SPANS[span][1] * DAY;

// `past`: { span, by, told, at, error }; told: the last figures told for this choice, and at which moment; error: why
// there is nothing newer. `watch` gets the element, to see whether it is in the window.
export function Past({ past, now, ask, watch }) {
  const { span, by, told, at, error } = past;
  const rows = told?.rows;
  return html`
    <${Section} id="past" title="Over time" note="attempts by UTC day, as they are kept">
      <div ref=${watch}>
        <div class="choices">
          <${Choice} label="Span" words=${SPANS} chosen=${span} choose=${(name) => ask({ span: name })} />
          <${Choice} label="By" words=${BY} chosen=${by} choose=${(name) => ask({ by: name })} />
        </div>
        ${rows?.length > 0 && html`<${Bars} line=${told.line} />`}
        <div aria-live="polite">
          ${!told && !error && html`<p class="soft">Asking …</p>`}
          ${error && html`<p class="soft stale">${told && `These figures are from ${moment(at, now)}; asking again failed: `}${error} <button class="quiet" onClick=${() => ask({})}>Ask again</button></p>`}
          ${rows?.length === 0 && html`<${Empty}>Nothing is kept for this span. ${KEPT} With state.url = "memory:" they end with the gateway.</${Empty}>`}
          ${rows?.length > 0 && html`<${Sums} by=${told.by} rows=${rows} totals=${told.totals} />`}
        </div>
      </div>
    </${Section}>`;
}

// docs/admin.md says it in the same words
const KEPT = "Each worker writes its figures down once a minute, and before it answers.";

const Choice = ({ label, words, chosen, choose }) => html`
  <div class="choice" role="group" aria-label=${label}>
    ${Object.entries(words).map(([name, word]) => html`
      <button key=${name} class="quiet" aria-pressed=${String(name === chosen)} onClick=${() => choose(name)}>${[word].flat()[0]}</button>`)}
  </div>`;

const COLUMNS = [
  ["Attempts", (row) => count(row.attempts)],
  ["Answered", (row) => percent(row.success_rate)],
  ["Tokens in", (row) => count(row.tokens_in)],
  ["Tokens out", (row) => count(row.tokens_out)],
  ["TTFT, mean", (row) => milliseconds(row.ttft_ms)],
  ["Answer, mean", (row) => milliseconds(row.latency_ms)],
];

const Sums = ({ by, rows, totals }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${`Figures by ${by}`}><table class="list">
    <thead><tr><th scope="col">${BY[by]}</th>${COLUMNS.map(([title]) => html`<th key=${title} scope="col" class="number">${title}</th>`)}</tr></thead>
    <tbody>${rows.map((row) => html`<${Row} key=${row[by]} name=${(NAMES[by] ?? String)(row[by])} row=${row} />`)}</tbody>
    ${rows.length > 1 && html`<tfoot><${Row} name="All" row=${totals} /></tfoot>`}
  </table></div>`;

const Row = ({ name, row }) => html`
  <tr data-row=${name}><th scope="row" title=${name}>${name}</th>${COLUMNS.map(([title, read]) => html`<td key=${title} class="number">${read(row)}</td>`)}</tr>`;
