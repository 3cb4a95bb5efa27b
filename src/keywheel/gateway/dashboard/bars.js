// Attempts by UTC day, or by hour of one day, as bars of what was answered, abandoned and failed.
import { html } from "./pieces.js";
import { count } from "./format.js";

const HOUR = 3_600; // seconds
const DAY = 24 * HOUR;
const NOTHING = { attempts: 0, succeeded: 0, failed: 0 };
const written = { day: (at) => iso(at).slice(0, 10), hour: (at) => `${iso(at).slice(11, 16)} UTC` };
const iso = (at) => new Date(at * 1000).toISOString();

// `line`: what is told by day or by hour, from the beginning of a day on. Days that nothing is kept of are empty bars.
export function Bars({ line }) {
  const { by, since, until } = line;
  const name = written[by];
  const known = new Map(line.rows.map((row) => [row[by], row]));
  const step = by === "hour" ? HOUR : DAY;
  const last = by === "hour" ? since + DAY - HOUR : until;
  const bars = [];
  for (let at = since; at <= last; at += step) bars.push({ at, ...(known.get(at) ?? NOTHING) });
  const highest = bars.reduce((one, other) => (other.attempts > one.attempts ? other : one));
  const title = `Attempts by ${by}`;
  const all = `${title}, ${name(bars[0].at)} to ${name(bars.at(-1).at)}: ${told(line.totals)}. Most: ${count(highest.attempts)}, ${name(highest.at)}.`;
  return html`
    <figure class="history"><figcaption>${title}
        <span class="swatch good">answered</span><span class="swatch faint">abandoned</span><span class="swatch bad">failed</span></figcaption>
      <div class="scale" aria-hidden="true"><span>${count(highest.attempts)}</span><span>0</span></div>
      <div class="bars" role="img" aria-label=${all}>${bars.map((bar) => html`<${Bar} key=${bar.at} bar=${bar} most=${highest.attempts} name=${name(bar.at)} />`)}</div>
      <div class="ends" aria-hidden="true"><span>${name(bars[0].at)}</span><span>${name(bars.at(-1).at)}</span></div>
    </figure>`;
}

const abandoned = ({ attempts, succeeded, failed }) => attempts - succeeded - failed;

const told = (row) =>
  `${count(row.attempts)}, ${count(row.succeeded)} answered, ${count(row.failed)} failed, ${count(abandoned(row))} abandoned`;

function Bar({ bar, most, name }) {
  const part = (kind, number) => number > 0 && html`<i class=${kind} style=${{ height: `${(number / most) * 100}%` }}></i>`;
  return html`<div data-bar=${name} title=${`${name}: ${told(bar)}`}>
    ${part("bad", bar.failed)}${part("faint", abandoned(bar))}${part("good", bar.succeeded)}</div>`;
}
