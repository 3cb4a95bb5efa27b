"""What is wrong now, in plain words: the cause, whom it concerns, when it is over, and one thing to do.

The words stand in one table; `findings` decides which of them apply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

SHOWN = 20  # names that one trouble lists; more are only counted
SEVERITIES = ("critical", "error", "warning", "info")


@dataclass(frozen=True, slots=True)
class Words:
    """How one kind of trouble is told. `critical`: nothing is served; `error`: somebody must act; `warning`: less is
    served, or soon will be; `info`: the wheel turns around it."""

    severity: str
    cause: str
    action: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """One finding. `until`: UTC seconds at which it is over, None if nobody knows or only a person ends it.

    `affects`: names of what it closes, at most `SHOWN`.
    """

    code: str
    severity: str
    scope: str
    name: str
    cause: str
    since: float | None
    until: float | None
    action: str
    affects: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As `/admin/state` tells it."""
        return asdict(self)


def trouble(
    code: str,
    scope: str,
    name: str,
    *,
    since: float | None = None,
    until: float | None = None,
    affects: Sequence[str] = (),
    **values: object,
) -> Trouble:
    """A finding in the words of the table."""
    words = WORDS[code]
    told = {"scope": scope, "name": name, "count": len(affects), **values}
    return Trouble(
        code,
        words.severity,
        scope,
        name,
        words.cause.format_map(told),
        since,
        until,
        words.action.format_map(told),
        tuple(affects[:SHOWN]),
    )


WORDS: Mapping[str, Words] = {
    # --- the whole pool
    "no-keys": Words("critical",
        "No key is set.",
        "Set OPENROUTER_API_KEY (and OPENROUTER_API_KEY_2 …) and start the gateway again."),
    "no-free-model": Words("critical",
        "No free model is known: the model list could not be read yet, or everything in it is excluded or costs money.",
        "Look at `keywheel models --all` for the reason of each; check models.exclude and the connection."),
    "all-closed": Words("critical",
        "No request can be served: every way to a model is closed ({counts}).",
        "Wait for the first to open. If that happens daily, add accounts of other owners, or top up once."),
    "no-model-fits": Words("warning",
        "{number} request(s) of the last 10 minutes were longer than the context of every free model listed now.",
        "Send less: shorten the conversation or split the document; `keywheel models` shows each model's context."),
    "no-model-can": Words("warning",
        "{number} request(s) of the last 10 minutes needed what no free model that they allow offers: {name}.",
        "Allow other models, or leave it out; `keywheel models` shows what each model can."),
    "capability-closed": Words("warning",
        "Every listed free model that offers {name} is closed, so requests that need it fail.",
        "Wait for the first to open, or send these requests without {name}."),
    # --- provider
    "upstream-down": Words("critical",
        "The upstream cannot be reached or fails as a whole ({row}).",
        "Check this machine's connection and https://status.openrouter.ai; it is tried again by itself."),
    "upstream-certificate": Words("critical",
        "The upstream's certificate is not valid for its name.",
        "Check this machine's date, proxies that open TLS, and upstream.ca_file."),
    "upstream-wrong-path": Words("critical",
        "The upstream knows no such path.",
        "Check upstream.base_url (OPENROUTER_BASE_URL): it usually ends in /api/v1."),
    "upstream-refuses": Words("critical",
        "The upstream's edge refuses this address ({row}).",
        "Send less from this address for a while, and check whether others behind the same address send too much."),
    "clock-skew": Words("warning",
        "This machine's clock is {seconds:.0f} s {direction} the upstream's; the upstream's UTC day is used.",
        "Set the clock, e.g. by switching NTP on (timedatectl set-ntp true)."),
    "state-unusable": Words("critical",
        "Requests cannot be counted, so nothing is sent on accounts with a free quota: {said}.",
        "Do what it says; it is tried again by itself, and a file that is damaged needs a new start."),
    "state-silent": Words("error",
        "What counts requests does not answer ({said}): nothing is sent on accounts with a free quota until it does, "
        "or, with a shared store, a small share after 70 seconds.",
        "Check that it runs and can be reached (state.url); it is tried again by itself twice a second."),
    # --- account
    "day-spent": Words("warning",
        "The free requests of {name} are used up for today ({used} of {limit}); its {count} key(s) share them.",
        "Wait for the new UTC day; buying 10 credits once raises an account from 50 to 1,000 requests a day."),
    "minute-limit": Words("info",
        "{name} has sent as many requests this minute as it may ({limit}); its {count} key(s) share them.",
        "Nothing: requests wait or take another account. Spread the load if it happens all the time."),
    "credits-negative": Words("error",
        "{name} has no credits or a negative balance, which closes free models, too.",
        "Add credits at https://openrouter.ai/settings/credits; that is noticed within the hour."),
    "credits-busy": Words("info",
        "{name} has its credits tied up in requests under way.",
        "Nothing: it opens as they end. Add credits if it happens often."),
    "day-ends-early": Words("warning",
        "At the present rate of {per_hour:g} requests an hour {name} runs out before its day is over ({left} left).",
        "Slow down, or add accounts of other owners."),
    # --- key
    "dead-key": Words("error",
        "The upstream does not accept key {name} ({row}).",
        "Replace it (https://openrouter.ai/settings/keys); if it was only paused, its return is noticed by itself."),
    "key-spending-limit": Words("error",
        "Key {name} has reached its own spending limit or a budget.",
        "Raise the key's limit at https://openrouter.ai/settings/keys, or wait for its reset."),
    "key-failing": Words("warning",
        "More than half of the attempts with key {name} failed lately ({reason}).",
        "Look at its last errors; it is tried again by one request by itself, or run `keywheel keys reset {name}`."),
    # --- model
    "model-saturated": Words("info",
        "{name} takes no more requests for now, with any key ({row}).",
        "Nothing: other models take over. Prefer another model if it happens all the time."),
    "model-failing": Words("info",
        "{name} fails ({row}).",
        "Nothing: other models take over, and it is tried again by itself."),
    "model-gone": Words("info",
        "{name} is not served free of charge any more, or not at all.",
        "Take it out of models.preferred and out of your clients; see `keywheel models`."),
    "model-not-for-us": Words("info",
        "{name} is not served here ({row}).",
        "Add it to models.exclude, or use another one."),
    "model-charged": Words("error",
        "{name} is listed as free of charge and has cost money.",
        "Look at the account's activity page, and exclude the model (models.exclude) if it is so."),
    # --- account and model
    "privacy-settings": Words("error",
        "The privacy settings or guardrails of {name} hide {count} free model(s) from it.",
        "Allow them at https://openrouter.ai/settings/privacy (free endpoints that may train on or publish prompts)."),
    "access-forbidden": Words("info",
        "{name} may not use {count} model(s).",
        "Nothing, unless you need them: the upstream says who may."),
    "disabled-by-operator": Words("info",
        "The operator has disabled {scope} {name}.",
        "Open it again on the dashboard, or with `keywheel keys enable NAME` if it is a key."),
}  # fmt: skip
