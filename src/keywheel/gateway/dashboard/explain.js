// Why a request went where it went: its decisions with their candidates, asked for when somebody opens it.
import { html, Mark, ModelName } from "./pieces.js";
import { count, NONE, plural, time } from "./format.js";

const seconds = (value) => (value === null || value === undefined ? NONE : `${value.toFixed(1)} s`);

// `told`: what the gateway told, { error } when it did not, nothing while it is asked.
export function Explanation({ told }) {
  if (!told) return html`<p class="soft" role="status">Asking why …</p>`;
  if (told.error) return html`<p class="soft" role="status">${told.error}</p>`;
  const all = told.decisions.length;
  return html`
    <div class="reasons">
      <p class="soft">${asked(told.asked)}</p>
      ${told.decisions.map((one, n) => html`<${Decision} key=${n} one=${one} number=${n + 1} of=${all} />`)}
      ${all > 0 && html`<p class="soft">Felt: seconds to an answer, and what failures are expected to cost, times the price of the place in the list. The least is best.</p>`}
    </div>`;
}

function asked(ask) {
  if (!ask) return "It was refused as it stood, before anything was decided.";
  const parts = [
    `about ${plural(ask.tokens, "token")}`,
    ask.reply_tokens && `a reply of at most ${count(ask.reply_tokens)}`,
    ask.needs.length > 0 && `needs ${ask.needs.join(", ")}`,
    ask.models.length > 0 && `one of ${ask.models.join(", ")}${ask.strategy ? `, ${ask.strategy}` : " in this order"}`,
    ask.first && `${ask.first} ${ask.pinned ? "only" : "first"}`,
    ask.stream && "streamed",
    ask.follow_up && "part of a conversation",
  ];
  return `Asked: ${parts.filter(Boolean).join("; ")}.`;
}

function Decision({ one, number, of }) {
  const { chosen } = one;
  const facts = [
    one.why,
    one.ways > 0 && `${plural(one.ways, "key")} could be used`,
    one.left_today !== null && `left ${count(one.left_today)} today, ${count(one.left_this_minute)} this minute`,
  ];
  const title = `Decision ${number} of ${of}`;
  return html`
    <section class="decision" aria-label=${title}>
      <p><b>${title}</b> <time class="soft">${time(one.at)}</time></p>
      <p>${chosen ? html`${chosen.key} (${chosen.account}) × ${chosen.model}` : "No way could be used"}</p>
      <p class="soft">${facts.filter(Boolean).join("; ")}</p>
      ${one.candidates.length > 0 && html`
        <div class="scroll" tabindex="0" role="region" aria-label=${`Candidates of decision ${number}`}>
          <table class="list candidates">
            <thead><tr><th scope="col">Candidate</th><th scope="col" class="number">Place</th><th scope="col" class="number">Felt</th>
              <th scope="col" class="number">Answer</th><th scope="col" class="number">Failures</th><th scope="col" class="number">× place</th></tr></thead>
            <tbody>${one.candidates.map((each) => html`<${Candidate} key=${each.id} each=${each} chosen=${each.id === chosen?.model} />`)}</tbody>
          </table></div>`}
    </section>`;
}

const Candidate = ({ each, chosen }) => html`
  <tr data-chosen=${chosen}>
    <th scope="row" title=${each.id}>
      <span class=${`standing is-${chosen ? "open" : "passed"}`}>${chosen && html`<${Mark} state="open" />`}<span><${ModelName} id=${each.id} /></span></span>
      <small>${chosen ? "taken" : each.why_not}${each.until !== null && ` until ${time(each.until)}`}</small></th>
    <td class="number">${each.rank ?? NONE}</td>
    <td class="number">${seconds(each.felt_s)}</td>
    <td class="number">${seconds(each.parts?.answer_s)}</td>
    <td class="number">${seconds(each.parts?.failures_s)}</td>
    <td class="number">${each.parts ? `× ${Math.exp(each.parts.place).toFixed(2)}` : NONE}</td>
  </tr>`;
