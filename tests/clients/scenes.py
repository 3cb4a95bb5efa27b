"""The scenes: what each begins with, and what must have come of it."""

from collections.abc import Callable
from dataclasses import dataclass

from keywheel import sim
from tests.clients.clients import Client
from tests.clients.stage import CALM, House, Outcome, Setting

A_SECOND_EACH = 60  # requests a minute
FILLING = sim.Scenario(accounts=(sim.Account(minute_limit=A_SECOND_EACH),), window="bucket")
REFUSALS = {"BadRequestError", "BadRequestResponseError", "APICallError", "AI_APICallError"}
LIMITS = {"RateLimitError", "TooManyRequestsResponseError", "APICallError", "AI_APICallError"}

NOTHING_SPECIAL = Setting()

Judge = Callable[[Outcome, Client], None]


@dataclass(frozen=True, slots=True)
class Scene:
    """One line of the matrix."""

    judge: Judge
    setting: Setting = NOTHING_SPECIAL


def scripted(kind: str) -> Setting:
    """The next attempt ends in `kind`."""
    return Setting(CALM, lambda house: house.world.script(kind))


def _spend_the_minute(house: House) -> None:
    """The account's minute is used up; it gives one request a second."""
    house.world.ledgers[0].minute.take(house.clock(), A_SECOND_EACH)


def _and_be_told_so(house: House) -> None:
    """Nor is the gateway any longer unaware of it."""
    _spend_the_minute(house)
    house.chat()


# --- judges --------------------------------------------------------------------------------------


def _answered(outcome: Outcome, client: Client) -> None:
    assert outcome.told["text"].startswith("Simulated answer from ")
    _in_one_attempt(outcome)


def _in_one_attempt(outcome: Outcome) -> None:
    assert set(outcome.attempts) == {"ok"}
    assert outcome.requests == len(outcome.attempts)


def _streamed(outcome: Outcome, client: Client) -> None:
    _answered(outcome, client)
    assert outcome.told["pieces"] > 5


def _called(outcome: Outcome, client: Client) -> None:
    name, arguments = outcome.told["tool"]
    assert name == "get_weather"
    assert isinstance(arguments["city"], str)
    assert outcome.told.get("stopped", "tool_use") == "tool_use"
    _in_one_attempt(outcome)


def _abandoned(outcome: Outcome, client: Client) -> None:
    """The lease is back, and what the client did is nobody's fault."""
    assert outcome.told["text"]
    assert outcome.open_leases == 0
    assert outcome.attempts == ("stall-after-content",)
    totals = outcome.stats["totals"]
    assert (totals["abandoned"], totals["failed"], totals["attempts"]) == (1, 0, 1)
    assert outcome.stats["errors"] == []
    every = [*outcome.stats["keys"], *outcome.stats["models"]]
    assert {each["state"] for each in every} == {"open"}
    assert not sum(key["failed"] for key in outcome.stats["keys"])


def _passed_on(outcome: Outcome, client: Client) -> None:
    """The upstream's own refusal of a bad request: once, as the SDK's error for it, with the upstream's words."""
    raised = outcome.told["raised"]
    assert (raised["status"], raised["type"] in REFUSALS) == (400, True), raised
    assert "Invalid request parameters" in raised["text"]
    assert raised["kind"] in {"invalid_request_error", None}
    assert (outcome.requests, outcome.attempts) == (1, ("invalid",))


def _refused(outcome: Outcome, client: Client) -> None:
    raised = outcome.told["raised"]
    assert (raised["status"], raised["type"] in REFUSALS) == (400, True), raised
    assert "model_not_free" in raised["codes"]
    assert (outcome.requests, outcome.attempts) == (1, ())


def _final(outcome: Outcome, client: Client) -> None:
    """Nothing opens today: the SDK is told so once and does not come back."""
    raised = outcome.told["raised"]
    assert (raised["status"], raised["type"] in LIMITS) == (429, True), raised
    assert "quota_exhausted" in raised["codes"]
    assert outcome.requests == (3 if "spent" in client.differs else 1)
    assert outcome.attempts == ()


def _came_back(outcome: Outcome, client: Client) -> None:
    """One refusal, one wait as long as it was told, one answer."""
    if "wait" in client.differs:
        assert outcome.told["raised"]["status"] == 429
        assert outcome.requests == 1
        return
    assert "text" in outcome.told, outcome.told
    assert outcome.told["text"].startswith("Simulated answer from ")
    assert (outcome.requests, outcome.attempts[-1:]) == (2, ("ok",))


def _broken(outcome: Outcome, client: Client) -> None:
    """Half an answer is never taken for a whole one: the SDK says that it broke off."""
    assert outcome.told["text"].startswith("Simulated")
    sign = outcome.told["in_band" if "broken" in client.differs else "raised"]
    assert "Provider disconnected" in sign["text"], sign
    assert (outcome.requests, outcome.attempts) == (1, ("break-after-content",))


def _cut(outcome: Outcome, client: Client) -> None:
    """A stream that only stops is told as an error too, in the gateway's own words."""
    assert outcome.told["text"].startswith("Simulated")
    sign = outcome.told["in_band" if "broken" in client.differs else "raised"]
    assert "cut off" in sign["text"], sign
    assert (outcome.requests, outcome.attempts) == (1, ("truncated",))


def _broken_responses(outcome: Outcome, client: Client) -> None:
    """Here the failure is an event of the dialect, or the SDK's error."""
    assert outcome.told["text"].startswith("Simulated")
    ended = outcome.told["events"][-1]
    assert "raised" in outcome.told or ended in {"response.failed", "error"}, outcome.told
    assert "response.completed" not in outcome.told["events"]
    assert outcome.attempts == ("break-after-content",)


def _both_ways(outcome: Outcome, client: Client) -> None:
    assert outcome.told["plain"].startswith("Simulated answer from ")
    _streamed(outcome, client)


def _parsed(outcome: Outcome, client: Client) -> None:
    assert set(outcome.told["parsed"]) == {"city"}
    _in_one_attempt(outcome)


def _responded(outcome: Outcome, client: Client) -> None:
    _streamed(outcome, client)
    events = outcome.told["events"]
    assert (events[0], events[-1]) == ("response.created", "response.completed")


def _embedded(outcome: Outcome, client: Client) -> None:
    assert outcome.told == {"vectors": [4, 4]}
    _in_one_attempt(outcome)


def _in_anthropics_order(outcome: Outcome, client: Client) -> None:
    _streamed(outcome, client)
    events = [event for event in outcome.told["events"] if event != "ping"]
    assert (events[0], events[-2:]) == ("message_start", ["message_delta", "message_stop"])
    assert events.count("content_block_start") == events.count("content_block_stop") > 0
    assert events.count("content_block_delta") >= outcome.told["pieces"]


def _reported(outcome: Outcome, client: Client) -> None:
    """What the pool tells of itself in OpenRouter's shape."""
    assert outcome.told["models"][0] == "auto"
    assert len(outcome.told["models"]) > 1
    assert (outcome.told["more"], outcome.told["usage"]) == (False, 0)
    assert outcome.told["day"] == [1, 1]


SPENT = Setting(sim.Scenario(accounts=(sim.Account(used_today=50),)))

SCENES = {
    "plain": Scene(_answered),
    "stream": Scene(_streamed),
    "tool": Scene(_called),
    "tool-stream": Scene(_called),
    "abort": Scene(_abandoned, scripted("stall-after-content")),
    "error": Scene(_passed_on, scripted("invalid")),
    "refused": Scene(_refused),
    "spent": Scene(_final, SPENT),
    "wait": Scene(_came_back, Setting(FILLING, _and_be_told_so)),
    "minute": Scene(_came_back, Setting(FILLING, _spend_the_minute)),
    "broken": Scene(_broken, scripted("break-after-content")),
    "cut": Scene(_cut, scripted("truncated")),
    "async": Scene(_both_ways),
    "parse": Scene(_parsed),
    "parse-class": Scene(_parsed),
    "responses": Scene(_answered),
    "responses-stream": Scene(_responded),
    "responses-broken": Scene(_broken_responses, scripted("break-after-content")),
    "embeddings": Scene(_embedded),
    "events": Scene(_in_anthropics_order),
    "api-key": Scene(_answered),
    "facts": Scene(_reported),
}
