// What went through: charts of the last hour, error patterns, the last requests.
import { Component } from "./preact.js";
import { Explanation } from "./explain.js";
import { Empty, html, Mark, Section } from "./pieces.js";
import { ago, count, milliseconds, NONE, plural, shortTime, time } from "./format.js";

const HEIGHT = 168;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const add = (...columns) => columns[0].map((_, n) => columns.reduce((sum, column) => sum + column[n], 0));

// Bars over each other look stacked: all, then what did not fail, then what was answered.
const REQUESTS = {
  columns: (t) => [t.at, t.requests, add(t.succeeded, t.abandoned), t.succeeded],
  series: () => ["--bad", "--faint", "--good"].map((name) => ({ fill: colour(name), width: 0, paths: uPlot.paths.bars({ size: [0.72, 24], radius: 0.15 }), points: { show: false } })),
  read: (value) => count(value),
};
const LATENCY = {
  columns: (t) => [t.at, t.ttft_ms],
  series: () => [{ stroke: colour("--accent"), width: 1.75, spanGaps: true, points: { show: true, size: 4, fill: colour("--accent") } }],
  read: (value) => milliseconds(value),
};

class Chart extends Component {
  componentDidMount() {
    this.watch = new ResizeObserver(() => this.plot?.setSize({ width: this.box.clientWidth, height: HEIGHT }));
    this.watch.observe(this.box);
    this.draw();
  }

  componentDidUpdate(before) {
    if (before.theme !== this.props.theme) this.draw();
    else if (before.timeline !== this.props.timeline) this.plot.setData(this.props.kind.columns(this.props.timeline));
  }

  componentWillUnmount() {
    this.watch.disconnect();
    this.plot.destroy();
  }

  draw() {
    this.plot?.destroy();
    const { kind, timeline, point } = this.props;
    const axis = { stroke: colour("--soft"), font: "11px system-ui, sans-serif", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
    const options = {
      width: this.box.clientWidth,
      height: HEIGHT,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false, y: false }, points: { show: false } },
      scales: { x: { range: (_, low, high) => [low - timeline.step / 2, high + timeline.step / 2] }, y: { range: (_, low, high) => [0, Math.max(4, (high ?? 0) * 1.12)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 30, space: 70, values: (_, ticks) => ticks.map(shortTime) },
        { ...axis, size: 52, space: 36, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? kind.read(tick) : "")) },
      ],
      series: [{}, ...kind.series()],
      hooks: { setCursor: [(plot) => point(plot.cursor.idx ?? null)] },
    };
    this.plot = new uPlot(options, kind.columns(timeline), this.box);
  }

  render({ label }) {
    return html`<div class="chart" role="img" aria-label=${label} ref=${(box) => (this.box = box ?? this.box)}></div>`;
  }
}

export function Traffic({ timeline, theme, pointed, point }) {
  const sum = (column) => timeline[column].reduce((all, one) => all + one, 0);
  const asked = sum("requests");
  const n = pointed !== null && timeline.at[pointed] ? pointed : null;
  const minute = n === null ? null : `${shortTime(timeline.at[n])}: ${plural(timeline.requests[n], "request")}, ${count(timeline.succeeded[n])} answered, ${count(timeline.failed[n])} failed, ${plural(timeline.rate_limited[n], "attempt")} rate-limited, first content after ${milliseconds(timeline.ttft_ms[n])}`;
  const hour = `Last hour: ${plural(asked, "request")}, ${count(sum("succeeded"))} answered, ${count(sum("failed"))} failed, ${count(sum("abandoned"))} abandoned`;
  return html`
    <${Section} id="traffic" title="Traffic" note="a bar a minute, the last hour">
      ${asked === 0 && sum("attempts") === 0
        ? html`<${Empty}>No request in the last hour. Send one:
            <code class="block">curl ${location.origin}/v1/chat/completions -H 'content-type: application/json' -d '{"model":"auto","messages":[{"role":"user","content":"Hello"}]}'</code></${Empty}>`
        : html`<div class="charts">
          <figure><figcaption>Requests a minute
            <span class="swatch good">answered</span><span class="swatch faint">abandoned</span><span class="swatch bad">failed</span></figcaption>
            <${Chart} kind=${REQUESTS} timeline=${timeline} theme=${theme} point=${point} label=${hour} /></figure>
          <figure><figcaption>Mean time to first content</figcaption>
            <${Chart} kind=${LATENCY} timeline=${timeline} theme=${theme} point=${point} label="Mean time to first content by minute" /></figure>
        </div><p class="told">${minute ?? hour}.</p>`}
    </${Section}>`;
}

export function Errors({ errors, now }) {
  const most = Math.max(1, ...errors.map((one) => one.count));
  const ranked = [...errors].sort((one, other) => other.count - one.count);
  return html`
    <${Section} id="errors" title="Error patterns" note="by row of the classification table">
      ${errors.length === 0 && html`<${Empty}>No attempt has failed since the start.</${Empty}>`}
      <ul class="errors">${ranked.map((one) => html`
        <li key=${`${one.row} ${one.scope}`}>
          <span class="row">${one.row}</span>
          <span class="soft">at fault: ${one.scope ?? NONE}, ${ago(now - one.last_at)} ago</span>
          <b>${count(one.count)}</b>
          <div class="bar is-errors" aria-hidden="true"><div class="fill" style=${{ width: `${(one.count / most) * 100}%` }}></div></div>
        </li>`)}</ul>
    </${Section}>`;
}

const OUTCOMES = { ok: "open", failed: "disabled", abandoned: "closed" };

export const Requests = ({ requests, explained, explain }) => html`
  <${Section} id="requests" title="Last requests" note="open one to see its tries, and why it went there">
    ${requests.length === 0 && html`<${Empty}>None yet. They appear here as they end.</${Empty}>`}
    <ol class="requests">${requests.map((one) => html`<${Request} key=${one.id} one=${one} told=${explained[one.id]} explain=${explain} />`)}</ol>
  </${Section}>`;

const Request = ({ one, told, explain }) => html`
  <li><details data-id=${one.id} onToggle=${(event) => event.currentTarget.open && explain(one.id)}>
    <summary>
      <span class=${`outcome is-${OUTCOMES[one.outcome] ?? "probing"}`}><${Mark} state=${OUTCOMES[one.outcome]} /><span class="unseen">${one.outcome}</span></span>
      <time>${time(one.at)}</time>
      <span class="model">${one.model ?? one.code ?? NONE}</span>
      <span class="key">${one.key ?? NONE}</span>
      <span class="number tries">${plural(one.attempts, "try").replace("trys", "tries")}</span>
      <span class="number">${milliseconds(one.duration_ms)}</span>
    </summary>
    <div class="tries-of">
      <p class="soft">${one.dialect} · ${one.outcome}${one.status !== null ? ` · ${one.status}` : ""}${one.code ? ` · ${one.code}` : ""} · id <code>${one.id}</code>${one.overhead_ms !== null && html` · the gateway added ${milliseconds(one.overhead_ms)}`}</p>
      ${one.tries.length === 0 && html`<p class="soft">No attempt was made.</p>`}
      <ol>${(told?.attempts ?? one.tries).map((each) => html`<${Try} each=${each} />`)}</ol>
      <${Explanation} told=${told} />
    </div>
  </details></li>`;

const Try = ({ each }) => html`
  <li class=${`is-${each.ok ? "open" : "disabled"}`}>
    <${Mark} state=${each.ok ? "open" : "disabled"} />
    <b>${each.row}</b>
    <span>${each.key} (${each.account}) × ${each.model}</span>
    ${each.means && html`<span class="soft">${each.means}</span>`}
    <span class="soft">${each.scope ? `at fault: ${each.scope}, ` : ""}${milliseconds(each.duration_ms)}${each.ttft_ms !== null ? `, first content after ${milliseconds(each.ttft_ms)}` : ""}, ${count(each.tokens_in)} → ${count(each.tokens_out)} tokens</span>
  </li>`;
