// The root: what is known, what is shown. Everything below is a function of `view`.
import { render } from "./preact.js";
import { Empty, html } from "./pieces.js";
import { ago } from "./format.js";
import { explain, follow, history, logIn, logOut, operate } from "./gateway.js";
import { Past, since } from "./history.js";
import { Accounts, Pool, Troubles } from "./overview.js";
import { Ways } from "./ways.js";
import { Keys, Models } from "./tables.js";
import { Errors, Requests, Traffic } from "./traffic.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const root = document.getElementById("page");
const view = {
  state: null, // the last state …
  heard: 0, // … and when it came, by performance.now()
  link: "connecting",
  locked: false,
  login: null, // { error, busy, then }: the login form is open
  signedIn: read("keywheel-signed-in") === "yes",
  theme: document.documentElement.dataset.theme ?? "auto",
  cell: null,
  pointed: null,
  explained: {}, // by request id, what was told about those that were opened
  past: { span: "today", by: "key", told: null, at: null, error: null }, // figures over time
  busy: null,
  said: "",
};

function change(patch) {
  Object.assign(view, patch);
  render(html`<${Whole} ...${view} />`, root);
}

const now = () => (view.state ? view.state.now + (performance.now() - view.heard) / 1000 : Date.now() / 1000);

// --- storage -----------------------------------------------------------------------------------------

function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null; // switched off: nothing is remembered
  }
}

function keep(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // switched off: it holds until the page is closed
  }
}

// --- what people do ----------------------------------------------------------------------------------

const THEMES = { auto: "light", light: "dark", dark: "auto" };

function turnTheme() {
  const theme = THEMES[view.theme];
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  keep("keywheel-theme", theme === "auto" ? null : theme);
  change({ theme });
}

async function act(plural, name, action) {
  change({ busy: `${plural}/${name}`, said: "" });
  const trouble = await operate(plural, name, action);
  if (trouble === "login") {
    keep("keywheel-signed-in", null);
    return change({ busy: null, signedIn: false, login: { then: () => act(plural, name, action), what: `${action} ${name}` } });
  }
  change({ busy: null, said: trouble ?? `${name}: ${action} done.` });
  if (!trouble) followed.ask();
}

async function tellWhy(id) {
  if (view.explained[id] && !view.explained[id].error) return;
  const told = await explain(id);
  if (told.locked) return followed.lock();
  const listed = new Set(view.state?.requests.map((one) => one.id));
  const kept = Object.entries(view.explained).filter(([known]) => listed.has(known));
  change({ explained: { ...Object.fromEntries(kept), [id]: told } });
}

const PAST = 60_000; // milliseconds after which figures over time are asked for anew
let pastAsked = -PAST;
let pastSeen = false; // whether they are in the window

// What is on the screen stays there until something newer is told; another choice starts anew.
async function tellPast(choice) {
  const same = Object.keys(choice).length === 0 && view.past.told;
  const past = { ...view.past, ...choice, ...(same ? {} : { told: null, at: null, error: null }) };
  pastAsked = performance.now();
  change({ past });
  const found = await tellBoth(since(past.span, now()), past.by, past.span === "today" ? "hour" : "day");
  if (view.past !== past) return; // somebody has chosen anew
  if (!found.error) return change({ past: { ...past, told: found, at: now(), error: null } });
  if (!found.locked) return change({ past: { ...past, error: found.error } });
  change({ past: { ...past, told: null, error: found.error } });
  followed.lock();
}

// Figures by `by`, and as a `line` of hours or days.
async function tellBoth(start, by, step) {
  const asked = history(start, by);
  const [found, line] = await Promise.all([asked, by === step ? asked : history(start, step)]);
  return found.error ? found : line.error ? line : { ...found, line };
}

function renewPast() {
  if (pastSeen && !document.hidden && view.state && !view.locked && performance.now() - pastAsked > PAST) tellPast({});
}

const sight = new IntersectionObserver((found) => {
  pastSeen = found.at(-1).isIntersecting;
  renewPast();
});

function watchPast(element) {
  pastSeen = false;
  sight.disconnect();
  if (element) sight.observe(element);
}

async function signIn(event) {
  event.preventDefault();
  const field = event.target.elements.token;
  const { then, what } = view.login ?? {};
  change({ login: { then, what, busy: true } });
  const error = await logIn(field.value).catch(() => "The gateway does not answer.");
  if (error) return change({ login: { then, what, error } });
  field.value = "";
  keep("keywheel-signed-in", "yes");
  pastAsked = -PAST;
  const past = { ...view.past, error: null };
  change({ login: null, signedIn: true, locked: false, said: "Signed in.", past });
  followed.come();
  then?.();
}

async function signOut() {
  await logOut().catch(() => null);
  keep("keywheel-signed-in", null);
  change({ signedIn: false, said: "Signed out." });
  followed.come();
}

// --- what is shown -----------------------------------------------------------------------------------

const LINKS = { live: "Live", polling: "Every 3 s", connecting: "Connecting", lost: "Connection lost", locked: "Locked" };

function Header({ state, link, heard, theme, signedIn, locked }) {
  const stale = link === "lost" && state ? `, figures are ${ago((performance.now() - heard) / 1000)} old` : "";
  return html`<header class="top">
    <a class="skip" href="#main">To the content</a>
    <p class="name"><img src="/assets/icon.svg" alt="" width="20" height="20" />keywheel<small>${state?.version}</small></p>
    ${state?.mode === "simulator" && html`<p class="chip" title="Answers are invented">simulator</p>`}
    ${state?.draining && html`<p class="chip">shutting down</p>`}
    <p class=${`link is-${link}`} id="link" role="status">${LINKS[link]}<span aria-hidden="true">${stale}</span></p>
    <button class="quiet" onClick=${turnTheme} aria-label=${`Theme: ${theme}. Switch to ${THEMES[theme]}`}>Theme: ${theme}</button>
    ${!locked && (signedIn
      ? html`<button class="quiet" id="sign-out" onClick=${signOut}>Sign out</button>`
      : html`<button class="quiet" id="sign-in" onClick=${() => change({ login: {} })}>Sign in</button>`)}
  </header>`;
}

const Form = ({ login, cancel }) => html`
  <form onSubmit=${signIn} class="login" method="post">
    <h2>Sign in</h2>
    <p>${login?.what ? html`To <b>${login.what}</b>, ` : ""}this gateway asks for the admin token. <code>keywheel serve</code> shows it at its first start; or it is KEYWHEEL_ADMIN_TOKEN.</p>
    <label for="token">Admin token</label>
    <input id="token" name="token" type="password" required autocomplete="current-password" spellcheck=${false}
      aria-invalid=${Boolean(login?.error)} aria-describedby="login-error" />
    <p id="login-error" class="error" role="alert">${login?.error}</p>
    <p class="buttons">
      ${cancel && html`<button type="button" class="quiet" onClick=${cancel}>Cancel</button>`}
      <button class="main" disabled=${login?.busy}>${login?.busy ? "Checking …" : "Sign in"}</button>
    </p>
  </form>`;

const open = (dialog) => dialog && !dialog.open && dialog.showModal();
const cancel = () => change({ login: null });

const Dialog = ({ login }) => html`
  <dialog ref=${open} onClose=${cancel} aria-label="Sign in"><${Form} login=${login} cancel=${cancel} /></dialog>`;

function Whole(all) {
  const { state, link, locked, login, cell, theme, pointed, explained, past, busy, said } = all;
  const at = now();
  const hands = { act, busy, now: at };
  return html`
    <${Header} ...${all} />
    <p class="said" role="status">${said && html`<span>${said}</span><button class="quiet" aria-label="Close the message" onClick=${() => change({ said: "" })}>Close</button>`}</p>
    <main id="main" tabindex="-1">
      ${locked && html`<div class="alone"><${Form} login=${login} /></div>`}
      ${!locked && !state && html`<${Empty}>${link === "lost" ? "The gateway does not answer. Is keywheel serve running? This page tries again by itself." : "Asking the gateway …"}</${Empty}>`}
      ${!locked && state && html`
        <${Pool} state=${state} now=${at} />
        <${Troubles} troubles=${state.troubles} now=${at} />
        <${Accounts} accounts=${state.accounts} ...${hands} />
        <${Ways} state=${state} now=${at} cell=${cell} choose=${(chosen) => change({ cell: chosen })} />
        <${Traffic} timeline=${state.timeline} theme=${`${theme} ${dark.matches}`} pointed=${pointed} point=${(n) => n !== view.pointed && change({ pointed: n })} />
        <${Past} past=${past} now=${at} ask=${tellPast} watch=${watchPast} />
        <${Models} models=${state.models} ...${hands} />
        <${Keys} keys=${state.keys} ...${hands} />
        <div class="pair"><${Requests} requests=${state.requests} explained=${explained} explain=${tellWhy} /><${Errors} errors=${state.errors} now=${at} /></div>`}
    </main>
    ${login && !locked && html`<${Dialog} login=${login} />`}`;
}

// --- life --------------------------------------------------------------------------------------------

let lookedAt = null; // the `changes_at` that was asked about: the state itself says when to look again

change({});
const followed = follow(change);
setInterval(() => {
  const due = view.state?.changes_at;
  if (due && due <= now() && due !== lookedAt) {
    lookedAt = due;
    followed.ask();
  }
  renewPast();
  if (view.state) change({});
}, 1000);
dark.addEventListener("change", () => change({}));
document.addEventListener("visibilitychange", renewPast);
