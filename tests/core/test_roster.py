"""The breakers between keys and models, and their summary."""

from keywheel.core.roster import Roster
from keywheel.core.types import FOREVER, Kind, Provenance, Scope
from tests.core.build import NOON, pool

SAID = Provenance.AUTHORITATIVE


def roster() -> Roster:
    return pool(("k1@a1", "k2@a1", "k3@a2"), ("m1", "m2")).roster


def close(found: Roster, kind: Kind, name: str, seconds: float) -> None:
    (breaker,) = found.find(Scope(kind, name))
    breaker.block(SAID, NOON + seconds, "said", NOON, 0)


def test_a_path_is_made_once_and_names_its_scopes() -> None:
    found = roster()
    path = found.path(found.models["m1"], found.keys["k2"])
    assert path is found.path(found.models["m1"], found.keys["k2"])
    assert [scope.name for scope in path.scopes] == [
        "openrouter", "a1", "k2", "m1", "a1+m1", "k2+m1",
    ]  # fmt: skip


def test_nothing_closed_is_no_pair() -> None:
    found = roster()
    assert found.closed_pairs(found.models["m1"], NOON) == {}


def test_lanes_and_access_are_summarised_by_key() -> None:
    found = roster()
    close(found, Kind.LANE, "k1+m1", 50)
    close(found, Kind.ACCESS, "a1+m1", 40)
    close(found, Kind.LANE, "k3+m1", 30)
    pairs = found.closed_pairs(found.models["m1"], NOON)
    assert pairs == {"k1": NOON + 50, "k2": NOON + 40, "k3": NOON + 30}
    assert found.closed_pairs(found.models["m2"], NOON) == {}


def test_the_summary_is_kept_until_a_breaker_changes_or_a_pair_opens() -> None:
    found = roster()
    state = found.models["m1"]
    close(found, Kind.LANE, "k1+m1", 50)
    close(found, Kind.LANE, "k3+m1", 30)
    first = found.closed_pairs(state, NOON)
    assert found.closed_pairs(state, NOON + 29) is first
    assert found.closed_pairs(state, NOON + 30) == {"k1": NOON + 50}
    close(found, Kind.LANE, "k2+m1", 90)
    assert set(found.closed_pairs(state, NOON + 31)) == {"k1", "k2"}


def test_pairs_without_end_need_a_closer_look() -> None:
    found = roster()
    state = found.models["m1"]
    close(found, Kind.LANE, "k1+m1", 50)
    found.closed_pairs(state, NOON)
    assert not state.pairs.odd
    close(found, Kind.LANE, "k1+m1", FOREVER)
    found.closed_pairs(state, NOON)
    assert state.pairs.odd


def test_every_breaker_is_listed_once() -> None:
    found = roster()
    found.path(found.models["m1"], found.keys["k1"])
    listed = list(found.breakers())
    assert len(listed) == len({id(breaker) for breaker in listed}) == 2 + 4 + 3 + 2 + 2
