// All traffic with the gateway: the state (as a stream, else by asking), the session, the operator's hand.

const POLL = 3_000; // milliseconds between two questions while the stream is down
const SILENT = 45_000; // a state comes at least every 30 s; after this the stream is not to be trusted
const FROM_PAGE = { "x-keywheel-page": "1" };
const OLD = 60; // seconds; more, and the gateway's clock was set back
const LOCKED = new Set([401, 403]);

// Follows the state. `tell` gets { state, heard }, { link: "live" | "polling" | "lost" } or { locked: true }.
export function follow(tell) {
  let source = null;
  let heard = 0;
  let asked = null; // when the last answer to a question was taken, by the gateway's clock

  const take = (state) => {
    heard = Date.now();
    tell({ state, heard: performance.now(), locked: false });
  };

  const close = () => {
    source?.close();
    source = null;
  };

  const listen = () => {
    close();
    heard = Date.now();
    source = new EventSource("/admin/events");
    source.addEventListener("state", (event) => {
      const state = JSON.parse(event.data);
      // a stream may begin with a state from before our question
      const stale = asked !== null && state.now < asked && asked - state.now < OLD;
      asked = null;
      if (!stale) take(state);
      tell({ link: "live" });
    });
    source.addEventListener("end", fallBack);
    source.onerror = fallBack;
  };

  const lock = () => {
    close();
    tell({ locked: true, state: null, link: "locked" });
  };

  // One question; says whether it was answered.
  const ask = async () => {
    try {
      const response = await fetch("/admin/state", { cache: "no-store", credentials: "same-origin" });
      if (LOCKED.has(response.status)) {
        lock();
        return false;
      }
      if (!response.ok) throw new Error(response.statusText);
      const state = await response.json();
      asked = state.now;
      take(state);
      if (!source) tell({ link: "polling" });
      return true;
    } catch {
      close();
      tell({ link: "lost" });
      return false;
    }
  };

  const fallBack = () => {
    close();
    ask();
  };

  const come = async () => {
    if (await ask()) listen();
  };

  setInterval(() => {
    if (!source) come();
    else if (Date.now() - heard > SILENT) fallBack();
  }, POLL);
  come();
  return { ask, come, lock };
}

// Why a request went where it went.
export const explain = (id) =>
  look(`explain/${encodeURIComponent(id)}`, {
    404: "The gateway does not remember this request any more.",
    silence: "The gateway does not answer. Close and open this request to ask again.",
  });

// Figures over time, in UTC seconds since then.
export const history = (since, by) => look(`history?since=${since}&by=${by}`);

// What the gateway tells; { error } in words when it does not, with `locked` where a session is needed.
async function look(path, words = {}) {
  try {
    const response = await fetch(`/admin/${path}`, { cache: "no-store", credentials: "same-origin" });
    if (response.ok) return await response.json();
    return { error: words[response.status] ?? (await reason(response)), locked: LOCKED.has(response.status) };
  } catch {
    return { error: words.silence ?? "The gateway does not answer." };
  }
}

export async function logIn(token) {
  const response = await post("/login", JSON.stringify({ token }));
  if (response.ok) return null;
  if (response.status === 401) return "This is not the admin token.";
  return await reason(response);
}

export const logOut = () => post("/logout");

// Returns null when done, "login" when a session is needed, else what went wrong.
export async function operate(plural, name, action) {
  // the browser would resolve dots, and the action would hit somebody else
  const parts = name.split("/");
  if (parts.some((part) => part === "." || part === "..")) return `The name ${name} cannot be asked for.`;
  const path = parts.map((part) => encodeURIComponent(part).replaceAll("%3A", ":")).join("/");
  try {
    const response = await post(`/admin/${plural}/${path}/${action}`);
    if (response.ok) return null;
    return LOCKED.has(response.status) ? "login" : await reason(response);
  } catch {
    return "The gateway does not answer. Nothing was changed as far as this page knows.";
  }
}

const post = (path, body) =>
  fetch(path, { method: "POST", credentials: "same-origin", headers: FROM_PAGE, body });

async function reason(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `The gateway answered ${response.status}.`;
  }
}
