"""Decisions taken down and made again: the same by the same policy, told apart by another."""

from dataclasses import replace
from random import Random

import msgspec
import pytest

from keywheel.core.decisions import Decision
from keywheel.core.policy import Choice, Health, Limits, Policy
from keywheel.core.pool import Pool
from keywheel.core.replay import Record, Unusable, chosen, decide, policy_of, take_down
from keywheel.core.rows import ROWS
from keywheel.core.tried import Tried
from keywheel.core.types import (
    Abandoned,
    Ask,
    Kind,
    Lease,
    Model,
    Outcome,
    Price,
    Scope,
)
from tests.core.build import ASK, NOON, account, answered, failed, model, on, pool, run, take

PAID = Model("paid", 131_072, 4_000, frozenset({"tools"}), free=False, price=Price(1e-6, 2e-6))
MODELS = (
    model("m1", can=("tools",)),
    model("m2", context=2_000),
    model("m3", can=("tools", "image")),
    model("m4"),
    Model("m5", 131_072, 150),
    PAID,
)
KEYS = ("k1@a1", "k2@a1", "k3@a2", "k4@a3", "k5@a4")
ACCOUNTS = (
    account("a1", 4_000, 100),
    account("a2", 900, 40),
    account("a3", None, cap=2),
    account("a4", 40, 20),
)
ROWS_OF_LIFE = (
    "upstream-pool", "server-error", "unclear-429", "bad-key", "transient", "timeout", "account-settings", "empty",
    "platform-minute", "unreachable", "malformed",
)  # fmt: skip
SCOPES = (
    Scope(Kind.MODEL, "m1"),
    Scope(Kind.KEY, "k3"),
    Scope(Kind.ACCOUNT, "a2"),
    Scope(Kind.LANE, "k1+m4"),
)
QUICK = Health(min_samples=2, disable=20.0)
POLICIES = {
    "balanced": Policy(QUICK),
    "fastest": Policy(QUICK, choice=Choice(strategy="fastest", allow_paid=True, paid_per_day=0.04)),
    "ordered": Policy(QUICK, choice=Choice(strategy="ordered", affinity=False)),
    "last resort": Policy(replace(QUICK, last_resort=True), Limits(attempts=2)),
}


def copied(record: Record) -> Record:
    """As it comes out of a file."""
    return msgspec.json.decode(msgspec.json.encode(record), type=Record)


class Life:
    """A pool that is asked, fails and recovers at random, and what it decided."""

    def __init__(self, policy: Policy, seed: int) -> None:
        self.chance, self.now = Random(seed), NOON
        self.pool = pool(KEYS, MODELS, policy, ACCOUNTS)
        self.pool.watch = self.see
        self.records: list[tuple[Record, Decision]] = []
        self.under_way: list[Lease] = []

    def see(self, made: Pool, ask: Ask, tried: Tried, decision: Decision) -> None:
        self.records.append((copied(take_down(made, ask, tried, decision)), decision))

    def ask(self) -> Ask:
        chance = self.chance
        return Ask(
            tokens=chance.choice((50, 900, 3_000, 20_000, 200_000)),
            reply_tokens=chance.choice((0, 100, 1_000)),
            needs=frozenset(chance.choice(((), (), ("tools",), ("tools", "image"), ("audio",)))),
            models=chance.choice(((), (), (), ("m4", "m1", "paid"), ("m2", "gone"))),
            strategy=chance.choice((None, None, "fastest", "ordered", "balanced")),
            first=chance.choice((None, None, None, "m3", "paid")),
            pinned=chance.random() < 0.1,
            conversation=chance.choice((None, "c1", "c2")),
            follow_up=chance.random() < 0.7,
            request_id="r1",
        )

    def tried(self) -> Tried:
        chance = self.chance
        if chance.random() < 0.6:
            return Tried(last_attempt=chance.random() < 0.2)
        lane = (chance.choice(("k1", "k3", "k4")), chance.choice(("m1", "m3", "m4")))
        return Tried(
            {lane},
            {lane[0]} if chance.random() < 0.3 else set(),
            {lane[1]: chance.choice((1, 2))},
            {lane[1]} if chance.random() < 0.3 else set(),
            {"a1"} if chance.random() < 0.3 else set(),
            {"tools"} if chance.random() < 0.2 else set(),
            chance.choice((0, 0, 2_000)),
            chance.choice((0.1, 3.0, 60.0)),
            chance.random() < 0.3,
            lane if chance.random() < 0.2 else None,
        )

    def outcome(self) -> Outcome:
        chance = self.chance
        if chance.random() < 0.6:
            ttft = chance.lognormvariate(0.0, 0.7)
            return answered(ttft, ttft + chance.lognormvariate(1.0, 0.8), chance.randrange(1, 900))
        if chance.random() < 0.1:
            return Abandoned("client gone")
        row = chance.choice(ROWS_OF_LIFE)
        until = self.now + chance.uniform(1, 60) if ROWS[row].length else None
        return failed(row, until, elapsed=chance.uniform(0.1, 20))

    def step(self) -> None:
        chance = self.chance
        self.now += chance.expovariate(1 / 3.0)
        if chance.random() < 0.02:
            self.pool.operate(chance.choice(("disable", "enable")), chance.choice(SCOPES), self.now)
        found = self.pool.select(self.ask(), self.tried(), self.now)
        if isinstance(found, Lease):
            self.under_way.append(found)
        while len(self.under_way) > chance.randrange(6):
            lease = self.under_way.pop(chance.randrange(len(self.under_way)))
            self.pool.settle(lease, self.outcome(), self.now)
        if chance.random() < 0.05:  # keys that failed a check pass the next
            for key in ("k1", "k2", "k3", "k4", "k5"):
                self.pool.operate("enable", Scope(Kind.KEY, key), self.now)


@pytest.mark.parametrize("name", POLICIES)
def test_what_was_decided_is_decided_again(name: str) -> None:
    """Models named, pools, pins, capabilities, paid models, conversations, later attempts, probes, last resorts."""
    life = Life(POLICIES[name], seed=7)
    for _ in range(400):
        life.step()
    for record, decision in life.records:
        assert decide(record, policy_of(record)) == decision
        assert chosen(decision) == record.chosen
    decided = {record.chosen.model for record, _ in life.records}
    passed = {why for _, decision in life.records for _, why, _ in decision.passed}
    closures = [closure for record, _ in life.records for closure in record.closures]
    assert decided >= {None, "m1", "m2", "m3", "m4", "m5"}
    assert passed >= {"closed", "context", "tools", "tried", "max_output"}
    assert {bool(closure.probe) for closure in closures} == {True, False}
    assert ("paid" in decided and "cost" in passed) == (name == "fastest")


def only(made: Pool, ask: Ask = ASK, tried: Tried | None = None) -> Record:
    """One decision as it comes out of a file."""
    records: list[Record] = []
    made.watch = lambda *seen: records.append(copied(take_down(*seen)))
    made.select(ask, tried or Tried(), NOON)
    return records[0]


def by(record: Record, policy: Policy) -> tuple[str | None, str | None, str | None]:
    return tuple(chosen(decide(record, policy)))


def test_another_policy_may_choose_otherwise() -> None:
    made = pool(("k1@a1",), ("m1", "m2"))
    for _ in range(6):
        run(made, answered(total=12.0), on("m1"))
        run(made, answered(total=7.0), on("m2"))
    record = only(made)
    assert record.chosen.model == "m2"
    assert by(record, Policy(choice=Choice(strategy="ordered"))) == ("k1", "m1", None)
    assert by(record, Policy(choice=Choice(preference_step=9.0))) == ("k1", "m1", None)
    assert by(record, Policy(choice=Choice(failure_cost=99.0))) == ("k1", "m1", None)
    assert by(record, Policy(choice=Choice(failure_cost=0.0))) == ("k1", "m2", None)


def test_another_list_has_its_own_order_and_leaves_out_what_it_leaves_out() -> None:
    made = pool(("k1@a1",), ("m1", "m2", "m3"))
    run(made, failed("upstream-pool", NOON + 90), on("m3"))
    record = only(made)
    assert chosen(decide(record, Policy(), ["m2", "m1"])).model == "m2"
    assert chosen(decide(record, Policy(), ["m3", "m1"])).model == "m1"
    assert chosen(decide(record, Policy(), [])).no_lane == "empty"


def test_where_a_conversation_was_is_kept_for_policies_that_care() -> None:
    made = pool(("k1@a1", "k2@a2"), ("m1",), Policy(choice=Choice(affinity=False)))
    made.affinity.remember("c1", "a2", NOON)
    record = only(made, ASK._replace(conversation="c1", follow_up=True))
    assert (record.home, record.chosen.key) == ("a2", "k1")
    assert by(record, Policy()) == ("k2", "m1", None)


def test_a_last_resort_is_allowed_to_one_at_a_time() -> None:
    made = pool(("k1@a1",), ("m1", "m2"), Policy(Health(last_resort=True)))
    for name in ("m1", "m2"):
        run(made, failed("server-error"), on(name))
    record = only(made)
    assert record.chosen.model is not None
    assert by(record, Policy()) == (None, None, "health")
    second = only(made)
    assert second.resorting
    assert second.chosen.no_lane == "health"
    assert by(second, policy_of(second)) == (None, None, "health")


def test_who_waited_and_is_served_is_taken_down_too() -> None:
    made = pool(("k1@a1",), ("m1",), accounts=(account("a1", 50, cap=1),))
    lease = take(made)
    ticket = made.queue.join(ASK, Tried())
    records: list[Record] = []
    made.watch = lambda *seen: records.append(copied(take_down(*seen)))
    made.dispatch(NOON)
    assert (records, ticket and ticket.lease) == ([], None)
    made.settle(lease, answered(), NOON + 1)
    made.dispatch(NOON + 1)
    (record,) = records
    assert record.chosen == ("k1", "m1", None)
    assert decide(record, policy_of(record)) == (ticket and ticket.decision)


def test_a_record_holds_no_name_of_a_client_and_no_conversation() -> None:
    made = pool()
    ask = ASK._replace(conversation="c0ffee", client="somebody", request_id="r77")
    record = only(made, ask)
    told = msgspec.json.encode(record).decode()
    assert record.request_id == "r77"
    assert "c0ffee" not in told
    assert "somebody" not in told


@pytest.mark.parametrize(
    "change",
    [
        {"accounts": ()},
        {"policy": {}},
        {
            "policy": {
                "strategy": "balanced",
                "attempts_per_model": 2,
                "last_resort": False,
                "new": 1,
            }
        },
    ],
    ids=str,
)
def test_a_record_that_does_not_hold_together_is_refused(change: dict[str, object]) -> None:
    other = replace(only(pool()), **change)  # type: ignore[arg-type]
    with pytest.raises(Unusable):
        decide(other, policy_of(other))


@pytest.mark.parametrize("nothing", ["keys", "models"])
def test_a_record_of_a_pool_without_keys_or_models_holds_together(nothing: str) -> None:
    record = replace(only(pool()), **{nothing: ()})  # type: ignore[arg-type]
    assert decide(record, Policy()).no_lane == "empty"
