// Keys × models: each cell is a way, coloured and marked by what closes it.
import { Countdown, Empty, html, Mark, ModelName, Section, why, WORDS } from "./pieces.js";
import { countdown, moment } from "./format.js";

const GRAVITY = { open: 0, probing: 1, closed: 2, disabled: 3 };
const LEGEND = ["open", "probing", "closed", "disabled"];

// What closes a way hardest: the provider, the key (or its account), the model, or the way itself.
export function standings(state) {
  const own = new Map(state.lanes.map((lane) => [`${lane.scope} ${lane.key ?? lane.account} ${lane.model}`, lane]));
  return (key, model) => {
    const found = [
      ["the provider", state.provider],
      [`key ${key.name}`, key],
      [`model ${model.id}`, model],
      [`account ${key.account} with this model`, own.get(`account+model ${key.account} ${model.id}`)],
      ["this way", own.get(`lane ${key.name} ${model.id}`)],
    ].filter(([, standing]) => standing);
    const [whom, standing] = found.reduce((worst, next) => (graver(next[1], worst[1]) ? next : worst));
    return { whom, standing };
  };
}

function graver(one, other) {
  const difference = (GRAVITY[one.state] ?? 1) - (GRAVITY[other.state] ?? 1);
  return difference > 0 || (difference === 0 && (one.until ?? Infinity) > (other.until ?? Infinity) && one.state !== "open");
}

export function Ways({ state, now, cell, choose }) {
  const { keys, models } = state;
  const standing = standings(state);
  const empty = keys.length === 0 || models.length === 0;
  const row = Math.max(0, models.findIndex((model) => model.id === cell?.model));
  const column = Math.max(0, keys.findIndex((key) => key.name === cell?.key));
  return html`
    <${Section} id="ways" title="Keys × models" note="models in the order of the list" extra=${html`<${Legend} />`}>
      ${empty
        ? html`<${Empty}>${keys.length ? "No free model is known: look at keywheel models --all." : "No key is set: set OPENROUTER_API_KEY and start the gateway again."}</${Empty}>`
        : html`
          <div class="scroll">
            <table class="ways" onKeyDown=${move}>
              <thead><tr><th scope="col">Model</th>${keys.map((key) => html`
                <th scope="col" key=${key.name} class=${`is-${key.state}`} data-key=${key.name}><span>${key.name}</span></th>`)}</tr></thead>
              <tbody>${models.map((model, y) => html`
                <tr key=${model.id}>
                  <th scope="row" class=${`is-${model.state}`} title=${model.id}><${ModelName} id=${model.id} /></th>
                  ${keys.map((key, x) => html`<${Cell} key=${key.name} way=${standing(key, model)} of=${{ key, model }}
                    now=${now} reached=${y === row && x === column} choose=${choose} />`)}
                </tr>`)}</tbody>
            </table>
          </div>
          <${Told} keys=${keys} models=${models} cell=${cell} standing=${standing} now=${now} />`}
    </${Section}>`;
}

function Cell({ way, of, now, reached, choose }) {
  const { standing, whom } = way;
  const { key, model } = of;
  const shut = standing.state !== "open";
  const label = `${key.name}, ${model.id}: ${why(standing)}${shut ? ` (${whom})` : ""}${standing.until === null ? "" : `, until ${moment(standing.until, now)}`}`;
  const take = () => choose({ key: key.name, model: model.id });
  return html`<td>
    <button class=${`cell is-${standing.state}`} aria-label=${label} title=${label} tabindex=${reached ? 0 : -1}
      data-key=${key.name} data-model=${model.id} data-state=${standing.state}
      onFocus=${take} onMouseEnter=${take} onClick=${take}>
      <${Mark} state=${standing.state} />
      ${standing.until !== null && html`<span class="left" aria-hidden="true">${countdown(standing.until - now)}</span>`}
    </button></td>`;
}

// The chosen way in words: the same on hover, by keyboard and by touch.
function Told({ keys, models, cell, standing, now }) {
  const key = keys.find((one) => one.name === cell?.key);
  const model = models.find((one) => one.id === cell?.model);
  if (!key || !model) return html`<p class="told">Point at a cell, or walk with the arrow keys, to read why it is closed and until when.</p>`;
  const way = standing(key, model);
  const shut = way.standing.state !== "open";
  return html`<p class=${`told is-${way.standing.state}`}>
    <${Mark} state=${way.standing.state} />
    <b>${key.name}</b> × <b>${model.id}</b>: ${why(way.standing)}${shut && html`, because of ${way.whom}`}${
      way.standing.until !== null && html`, opens in <${Countdown} to=${way.standing.until} now=${now} />`}${
      shut && way.standing.until === null && ", no end known"}.
  </p>`;
}

const Legend = () => html`<ul class="legend" aria-label="What the marks mean">${LEGEND.map((state) => html`
  <li key=${state} class=${`is-${state}`}><${Mark} state=${state} />${WORDS[state]}</li>`)}</ul>`;

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// One stop of the tabulator for the whole grid; arrows walk inside.
function move(event) {
  const step = STEPS[event.key];
  const here = event.target.closest?.("td");
  if (!step || !here) return;
  const line = here.parentElement;
  const lines = line.parentElement.rows;
  const next = lines[line.sectionRowIndex + step[0]]?.cells[here.cellIndex + step[1]];
  const button = next?.querySelector("button");
  if (!button) return;
  event.preventDefault();
  button.focus();
}
