"""Each trouble is staged in a pool and told in plain words: the cause, the scope, when it is over, one thing to do."""

import string

import pytest

from keywheel.core.findings import findings
from keywheel.core.pool import Pool
from keywheel.core.stats import Stats
from keywheel.core.troubles import SEVERITIES, WORDS, Trouble, trouble
from keywheel.core.types import Answered, Ask, Finished, Kind, Reopened, Scope
from tests.core.build import (
    MIDNIGHT,
    NOON,
    account,
    answered,
    failed,
    heal,
    model,
    on,
    pool,
    run,
    take,
)


def told(made: Pool, stats: Stats | None = None, now: float = NOON) -> dict[str, Trouble]:
    """The troubles of a pool by code; it is an error if one is told twice."""
    found = findings(made, stats or Stats(NOON), now)
    by_code = {each.code: each for each in found}
    assert len(by_code) == len(found)
    return by_code


def test_a_sound_pool_has_no_trouble() -> None:
    assert told(pool()) == {}


def test_what_is_wrong_with_the_store_is_told_among_the_rest_by_its_gravity() -> None:
    made = pool()
    run(made, failed("bad-key"))
    state = trouble("state-unusable", "host", "state", since=NOON, said="the disk is full")
    found = findings(made, Stats(NOON), NOON, state)
    assert [each.code for each in found] == ["state-unusable", "dead-key"]
    assert "the disk is full" in found[0].cause


# --- the ten staged troubles -----------------------------------------------------------------------


@pytest.mark.parametrize("row", ["bad-key", "bad-key-400"])
def test_a_dead_key(row: str) -> None:
    made = pool()
    run(made, failed(row))
    found = told(made)["dead-key"]
    assert (found.severity, found.scope, found.name) == ("error", "key", "k1")
    assert (found.since, found.until) == (NOON, None)
    assert "k1" in found.cause
    assert "Replace it" in found.action


def test_a_shared_account_whose_day_is_spent() -> None:
    made = pool(("k1@a1", "k2@a1"), accounts=[account("a1", 1)])
    run(made, answered())
    found = told(made)["day-spent"]
    assert (found.scope, found.name, found.affects) == ("account", "a1", ("k1", "k2"))
    assert "1 of 1" in found.cause
    assert "2 key(s) share" in found.cause
    assert found.until
    assert MIDNIGHT < found.until < MIDNIGHT + 31


def test_a_day_that_the_upstream_calls_spent() -> None:
    made = pool(("k1@a1", "k2@a2"), accounts=[account("a1", 50)])
    run(made, failed("platform-day"))
    found = told(made)
    assert set(found) == {"day-spent"}
    assert found["day-spent"].since == NOON


def test_a_minute_limit_by_our_count_and_by_the_upstreams_word() -> None:
    made = pool(("k1@a1",), accounts=[account("a1", 1_000, per_minute=2)])
    run(made, answered())
    found = told(made)["minute-limit"]
    assert (found.severity, found.scope, found.name, found.until) == (
        "info",
        "account",
        "a1",
        NOON + 61,
    )
    assert "(1)" in found.cause
    made = pool(("k1@a1",))
    run(made, failed("platform-minute", NOON + 40))
    found = told(made)["minute-limit"]
    assert (found.since, found.until) == (NOON, NOON + 40)


@pytest.mark.parametrize("row", ["upstream-pool", "model-capacity", "overloaded"])
def test_a_saturated_model(row: str) -> None:
    made = pool()
    run(made, failed(row, NOON + 30), on("m1"))
    found = told(made)["model-saturated"]
    assert (found.severity, found.scope, found.name) == ("info", "model", "m1")
    assert found.until
    assert found.until >= NOON + 30
    assert row in found.cause


def test_privacy_settings_that_hide_models_are_told_once_for_the_account() -> None:
    made = pool(models=["m1", "m2", "m3"])
    made.see_models("k1", frozenset({"m1"}), NOON)
    found = told(made)["privacy-settings"]
    assert (found.severity, found.scope, found.name) == ("error", "account+model", "a1")
    assert found.affects == ("m2", "m3")
    assert "hide 2 free model(s)" in found.cause
    assert "settings/privacy" in found.action
    assert (found.since, found.until) == (NOON, NOON + 86_400)


def test_models_that_the_settings_show_again_are_open_at_once() -> None:
    made = pool(models=["m1", "m2"])
    made.see_models("k1", frozenset({"m1"}), NOON)
    shown = made.see_models("k1", frozenset({"m1", "m2"}), NOON + 60)
    assert [(type(event), event.scope.name) for event in shown] == [(Reopened, "a1+m2")]
    assert "privacy-settings" not in told(made)
    assert made.see_models("nobody", frozenset(), NOON) == ()


def test_negative_credits() -> None:
    made = pool()
    run(made, failed("no-credits"))
    found = told(made)["credits-negative"]
    assert (found.severity, found.scope, found.name) == ("error", "account", "a1")
    assert "settings/credits" in found.action
    assert found.until
    assert found.until > MIDNIGHT


@pytest.mark.parametrize(
    ("row", "code"),
    [("bad-certificate", "upstream-certificate"), ("wrong-path", "upstream-wrong-path"),
     ("edge-refusal", "upstream-refuses"), ("edge", "upstream-down")],
)  # fmt: skip
def test_an_upstream_in_trouble(row: str, code: str) -> None:
    made = pool()
    run(made, failed(row))
    found = told(made)
    assert set(found) == {code, "all-closed"}
    assert (found[code].severity, found[code].scope) == ("critical", "provider")
    assert found[code].until == found["all-closed"].until


def test_an_upstream_that_cannot_be_reached() -> None:
    made = pool(models=["m1", "m2"])
    for name in ("m1", "m2"):
        run(made, failed("unreachable"), on(name))
    found = told(made)["upstream-down"]
    assert "unreachable" in found.cause
    assert found.until
    assert found.until > NOON


@pytest.mark.parametrize(("skew", "words"), [(12.0, "12 s behind"), (-90.0, "90 s ahead of")])
def test_a_clock_that_is_wrong(skew: float, words: str) -> None:
    made = pool()
    made.set_skew(skew)
    found = told(made)["clock-skew"]
    assert (found.severity, found.scope, found.until) == ("warning", "host", None)
    assert words in found.cause
    made.set_skew(4.0)
    assert told(made) == {}


def test_when_all_are_cooling_the_first_opening_is_named() -> None:
    made = pool()
    for name in ("m1", "m2"):
        run(made, failed("server-error"), on(name))
    found = findings(made, Stats(NOON), NOON)
    assert found[0].code == "all-closed"
    assert found[0].severity == "critical"
    assert "4 cooling" in found[0].cause
    assert found[0].until == min(each.until or 0 for each in found[1:])


def test_no_free_model_and_no_key() -> None:
    assert set(told(pool(models=[]))) == {"no-free-model"}
    assert set(told(pool(keys=[]))) == {"no-keys"}


@pytest.mark.parametrize(
    ("lacking", "code"), [("context", "no-model-fits"), ("image, tools", "no-model-can")]
)
def test_requests_that_fit_no_model_are_told_for_ten_minutes(lacking: str, code: str) -> None:
    stats = Stats(NOON)
    for at, what in ((NOON, lacking), (NOON + 5, lacking), (NOON + 6, ""), (NOON + 7, "cost")):
        stats.record(
            Finished(at, "r", "chat", "failed", 400, "x", 0, "", "", "", 0.1, lacking=what)
        )
    found = told(pool(), stats, NOON + 10)[code]
    assert (found.scope, found.name, found.since, found.until) == (
        "pool",
        lacking,
        NOON,
        NOON + 605,
    )
    assert "2 request(s)" in found.cause
    assert told(pool(), stats, NOON + 605) == {}


# --- others ----------------------------------------------------------------------------------------


def test_a_capability_that_only_closed_models_offer() -> None:
    made = pool(models=[model("m1", can=["tools"]), model("m2", can=["tools"]), "m3"])
    run(made, failed("server-error"), on("m1"))
    assert "capability-closed" not in told(made)
    run(made, failed("model-gone"), on("m2"))
    found = told(made)["capability-closed"]
    assert (found.name, found.affects) == ("tools", ("m1", "m2"))
    assert found.until
    assert found.until < NOON + 60


def test_a_key_that_fails_too_often() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for number in range(5):
        run(made, failed("server-error"), on(f"m{number % 2 + 1}"))
        heal(made, Kind.MODEL, f"m{number % 2 + 1}")
    found = told(made)["key-failing"]
    assert (found.name, found.until) == ("k1", NOON + 300)
    assert "error rate 5/5" in found.cause


@pytest.mark.parametrize(
    ("row", "code"),
    [("key-limit", "key-spending-limit"), ("forbidden", "access-forbidden"), ("model-gone", "model-gone"),
     ("region", "model-not-for-us"), ("harness-gate", "model-not-for-us"), ("server-error", "model-failing"),
     ("in-flight-budget", "credits-busy")],
)  # fmt: skip
def test_every_closed_scope_is_somebodys_trouble(row: str, code: str) -> None:
    made = pool()
    run(made, failed(row), on("m1"))
    assert set(told(made)) == {code}


def test_a_free_model_that_cost_money() -> None:
    made = pool()
    made.settle(take(made, on("m1")), Answered(0.5, 2.0, 1, 1, 0.01), NOON)
    assert told(made)["model-charged"].severity == "error"


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.KEY, "k1"), (Kind.MODEL, "m1"), (Kind.ACCOUNT, "a1"), (Kind.PROVIDER, "openrouter")]
)  # fmt: skip
def test_an_operators_hand_is_told(kind: Kind, name: str) -> None:
    made = pool()
    made.operate("disable", Scope(kind, name), NOON)
    found = told(made)["disabled-by-operator"]
    assert (found.scope, found.name, found.until) == (kind, name, None)


def test_a_day_that_ends_early_is_told_before_it_does() -> None:
    made, stats = pool(("k1@a1",), accounts=[account("a1", 50)]), Stats(NOON - 600)
    for number in range(10):
        for event in run(made, answered(), Ask(tokens=9), NOON + number):
            stats.record(event)
    found = told(made, stats, NOON + 10)["day-ends-early"]
    assert (found.severity, found.name) == ("warning", "a1")
    assert "(40 left)" in found.cause


def test_a_few_requests_are_no_forecast() -> None:
    made, stats = pool(("k1@a1",), accounts=[account("a1", 50)]), Stats(NOON)
    for number in range(4):
        for event in run(made, answered(), Ask(tokens=9), NOON + number):
            stats.record(event)
    assert "day-ends-early" not in told(made, stats, NOON + 10)


def test_a_probe_under_way_is_no_trouble() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for number in range(5):
        run(made, failed("server-error"), on(f"m{number % 2 + 1}"))
        heal(made, Kind.MODEL, f"m{number % 2 + 1}")
    take(made, on("m2"), NOON + 300)
    assert "key-failing" not in {each.code for each in findings(made, Stats(NOON), NOON + 300)}


def test_the_gravest_comes_first() -> None:
    made = pool()
    run(made, failed("upstream-pool"), on("m1"))
    made.set_skew(60)
    made.key_is_bad("k1", "bad-key", NOON)
    found = [each.severity for each in findings(made, Stats(NOON), NOON)]
    assert found == ["error", "warning", "info"]


def test_one_trouble_names_at_most_twenty_of_those_it_affects() -> None:
    names = [f"m{number}" for number in range(30)]
    found = trouble("access-forbidden", "account+model", "a1", affects=names)
    assert "30 model(s)" in found.cause
    assert len(found.affects) == 20
    assert found.to_dict()["affects"] == tuple(names[:20])


@pytest.mark.parametrize("code", WORDS)
def test_the_words_are_whole_sentences_with_known_values(code: str) -> None:
    words = WORDS[code]
    assert words.severity in SEVERITIES
    known = {
        "scope", "name", "count", "row", "reason", "used", "limit", "per_hour", "left", "number", "seconds",
        "direction", "counts", "said",
    }  # fmt: skip
    for text in (words.cause, words.action):
        assert {field for _, field, _, _ in string.Formatter().parse(text) if field} <= known
        assert text.endswith((".", "…).", ")"))
