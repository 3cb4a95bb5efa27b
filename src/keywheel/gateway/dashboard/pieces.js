// Small parts that every view is built of.
import { h } from "./preact.js";
import htm from "./htm.js";
import { countdown, moment, NONE } from "./format.js";

export const html = htm.bind(h);

// A state is told by shape and word, and only then by colour.
const SHAPES = {
  open: "M3.2 8.4l3 3 6.6-7",
  closed: "M5.4 3.6v8.8M10.6 3.6v8.8",
  disabled: "M4 4l8 8M12 4l-8 8",
  info: "M8 7.2v4.6M8 4.2v.1",
  probing: "M5.6 5.8a2.4 2.4 0 1 1 3.6 2.1c-.8.5-1.2 1-1.2 1.7M8 12.6v.1",
};
export const WORDS = { open: "open", closed: "closed for now", disabled: "disabled", probing: "being tried" };

export const Mark = ({ state }) => html`
  <svg class="mark" viewBox="0 0 16 16" aria-hidden="true"><path d=${SHAPES[state] ?? SHAPES.probing} /></svg>`;

export const Standing = ({ of, now }) => html`
  <span class=${`standing is-${of.state}`} title=${why(of)}>
    <${Mark} state=${of.state} />
    <span>${of.state === "open" ? "open" : (of.reason ?? WORDS[of.state])}</span>
    ${of.until !== null && html`<span class="until"><${Countdown} to=${of.until} now=${now} /></span>`}
  </span>`;

// In words, for a title or a label.
export function why(of) {
  if (of.state === "open") return "open";
  const source = { authoritative: "the upstream said so", heuristic: "a guess", operator: "by the operator" }[of.provenance];
  const facts = [of.row ?? of.reason, source].filter(Boolean).join(", ");
  return facts ? `${WORDS[of.state] ?? of.state}: ${facts}` : (WORDS[of.state] ?? of.state);
}

export const Countdown = ({ to, now }) =>
  to === null || to === undefined
    ? NONE
    : html`<time class="countdown" datetime=${new Date(to * 1000).toISOString()} title=${`at ${moment(to, now)}`}
        >${countdown(to - now)}</time>`;

// How much is left of a limit.
export function Bar({ label, left, limit }) {
  if (limit === null || limit === undefined) return html`<div class="bar is-unmetered"></div>`;
  const share = limit ? Math.max(0, Math.min(1, left / limit)) : 0;
  const level = share === 0 ? "is-empty" : share < 0.15 ? "is-low" : "";
  return html`
    <div class=${`bar ${level}`} role="meter" aria-label=${label} aria-valuemin="0" aria-valuemax=${limit}
      aria-valuenow=${left} aria-valuetext=${`${left} of ${limit} left`}>
      <div class="fill" style=${{ width: `${share * 100}%` }}></div>
    </div>`;
}

// The operator's hand on one key, model or account.
export function Hand({ plural, of, act, busy }) {
  const name = of.name ?? of.id;
  const off = of.state === "disabled";
  const button = (action, word) => html`
    <button class="quiet" disabled=${busy === `${plural}/${name}`} aria-label=${`${word} ${name}`}
      onClick=${() => act(plural, name, action)}>${word}</button>`;
  return html`<span class="hand">
    ${off ? button("enable", "Enable") : button("disable", "Disable")}
    ${button("reset", "Reset")}
  </span>`;
}

export const Section = ({ id, title, note, children, extra }) => html`
  <section id=${id} class="section" aria-labelledby=${`${id}-title`}>
    <header><h2 id=${`${id}-title`}>${title}</h2>${note && html`<p class="note">${note}</p>`}${extra}</header>
    ${children}
  </section>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

// A sentence whose `commands` are set as code.
export const Sentence = ({ text }) => text.split("`").map((part, n) => (n % 2 ? html`<code>${part}</code>` : part));

// A model's id; narrow windows leave its owner out.
export function ModelName({ id }) {
  const cut = id.indexOf("/") + 1;
  return html`<span class="owner">${id.slice(0, cut)}</span>${id.slice(cut)}`;
}
