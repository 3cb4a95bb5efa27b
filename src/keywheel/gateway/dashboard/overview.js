// The pool at a glance, what is wrong, and the accounts.
import { Bar, Countdown, Empty, Hand, html, Mark, Section, Sentence, Standing } from "./pieces.js";
import { ago, count, moment, percent, plural } from "./format.js";

const HEADLINES = { ready: "Ready", degraded: "Serving, with troubles", exhausted: "Nothing can be served" };
const MARKS = { ready: "open", degraded: "closed", exhausted: "disabled" };

export function Pool({ state, now }) {
  const { pool, totals, timeline } = state;
  const sum = (column) => timeline[column].reduce((all, one) => all + one, 0);
  const [asked, answered] = [sum("requests"), sum("succeeded")];
  const ended = asked - sum("abandoned");
  return html`
    <section class="pool" aria-label="The pool at a glance">
      <div class=${`headline is-${MARKS[pool.state] ?? "probing"}`}>
        <${Mark} state=${MARKS[pool.state]} />
        <h1>${HEADLINES[pool.state] ?? pool.state}</h1>
        ${pool.opens_at !== null && html`<p>opens in <${Countdown} to=${pool.opens_at} now=${now} /></p>`}
      </div>
      <dl class="figures">
        <${Figure} name="Requests left today" value=${count(pool.day.remaining)}
          of=${pool.day.limit === null ? "no metered account" : `of ${count(pool.day.limit)}`} id="day-left">
          ${pool.day.limit !== null && html`<${Bar} label="Requests left today" left=${pool.day.remaining} limit=${pool.day.limit} />`}
          ${pool.day.resets_at !== null && html`<span>resets in <${Countdown} to=${pool.day.resets_at} now=${now} /></span>`}
        </${Figure}>
        <${Figure} name="Free this minute" value=${count(pool.minute.free)}
          of=${pool.minute.limit === null ? "no metered account" : `of ${count(pool.minute.limit)}`} id="minute-left">
          ${pool.minute.limit !== null && html`<${Bar} label="Free this minute" left=${pool.minute.free} limit=${pool.minute.limit} />`}
          <span>${plural(pool.in_flight, "attempt")} under way, ${count(pool.queue.length)} waiting</span>
        </${Figure}>
        <${Figure} name="Ways open" value=${count(pool.lanes.usable)} of=${`of ${count(pool.lanes.total)}`} id="ways-open">
          <${Bar} label="Ways open" left=${pool.lanes.usable} limit=${pool.lanes.total} />
          <span>pairs of a key and a model</span>
        </${Figure}>
        <${Figure} name="Answered, last hour" value=${ended ? percent(answered / ended) : "–"} of=${`of ${count(asked)}`} id="answered">
          ${ended > 0 && html`<${Bar} label="Answered in the last hour" left=${answered} limit=${ended} />`}
          <span>${plural(totals.requests, "request")}, ${plural(totals.fallbacks, "fallback")} since ${moment(state.since, now)}</span>
        </${Figure}>
      </dl>
    </section>`;
}

const Figure = ({ id, name, value, of, children }) => html`
  <div class="figure" id=${id}>
    <dt>${name}</dt>
    <dd><strong>${value}</strong> <span class="of">${of}</span><div class="under">${children}</div></dd>
  </div>`;

const SIGNS = { critical: "disabled", error: "disabled", warning: "closed", info: "info" };

export function Troubles({ troubles, now }) {
  const grave = troubles.filter((trouble) => trouble.severity !== "info").length;
  const note = troubles.length === 0 ? null : grave === troubles.length ? `${grave}` : `${grave} to look at, ${troubles.length - grave} for information`;
  return html`
    <${Section} id="troubles" title="Troubles" note=${note}>
      ${troubles.length === 0 && html`<${Empty}>None. Every key, model and account is well.</${Empty}>`}
      ${troubles.length > 0 && html`<ul class="troubles">${troubles.map((one) => html`<${Trouble} key=${`${one.code} ${one.scope} ${one.name}`} one=${one} now=${now} />`)}</ul>`}
    </${Section}>`;
}

const Trouble = ({ one, now }) => html`
  <li class=${`trouble is-${one.severity}`}>
    <${Mark} state=${SIGNS[one.severity]} />
    <div>
      <p class="cause"><span class="severity">${one.severity}</span> <${Sentence} text=${one.cause} /></p>
      <p class="action"><${Sentence} text=${one.action} /></p>
      <p class="affects">${one.scope}${one.affects.length > 0 && ` · affects ${one.affects.join(", ")}`}</p>
    </div>
    <p class="when">
      ${one.until !== null ? html`<span>over in </span><${Countdown} to=${one.until} now=${now} />` : html`<span>no end known</span>`}
      ${one.since !== null && html`<small>for ${ago(now - one.since)}</small>`}
    </p>
  </li>`;

export const Accounts = ({ accounts, now, act, busy }) => html`
  <${Section} id="accounts" title="Accounts" note="keys of one account share its limits">
    ${accounts.length === 0 && html`<${Empty}>No account is known yet. Set OPENROUTER_API_KEY and start the gateway again.</${Empty}>`}
    <ul class="cards">${accounts.map((one) => html`<${Account} key=${one.name} one=${one} now=${now} act=${act} busy=${busy} />`)}</ul>
  </${Section}>`;

const Account = ({ one, now, act, busy }) => html`
  <li class="card" data-account=${one.name}>
    <header><h3>${one.name}</h3><${Standing} of=${one} now=${now} /></header>
    <p class="keys">${one.keys.join(", ")}</p>
    <${Meter} name="Today" left=${one.day.remaining} limit=${one.day.limit} used=${one.day.used}
      label=${`${one.name}: requests left today`} />
    <${Meter} name="This minute" left=${one.minute.free} limit=${one.minute.limit} used=${one.minute.used}
      label=${`${one.name}: free this minute`} />
    <p class="facts">
      ${one.day.resets_at !== null && html`<span>Resets in <${Countdown} to=${one.day.resets_at} now=${now} /></span>`}
      <span>${outlook(one.forecast, now)}</span>
    </p>
    <${Hand} plural="accounts" of=${one} act=${act} busy=${busy} />
  </li>`;

const Meter = ({ name, label, left, limit, used }) => html`
  <div class="meter">
    <span>${name}</span>
    <span>${limit === null ? html`${count(used)} used, not metered` : html`<b>${count(left)}</b> of ${count(limit)} left`}</span>
    <${Bar} label=${label} left=${left} limit=${limit} />
  </div>`;

function outlook(forecast, now) {
  const rate = `at ${count(Math.round(forecast.per_hour))} an hour`;
  switch (forecast.outlook) {
    case "lasts": return `Lasts until then ${rate}`;
    case "ends": return `Ends at ${moment(forecast.ends_at, now)} ${rate}`;
    case "spent": return "Spent for today";
    case "unmetered": return "Not metered";
    default: return "Idle";
  }
}
