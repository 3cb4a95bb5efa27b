"""A conversation's account is remembered for a while, in bounded memory."""

from keywheel.core.affinity import IDLE, MOST, Affinity


def test_a_conversation_is_remembered_until_it_is_idle_for_too_long() -> None:
    affinity = Affinity()
    affinity.remember("talk", "account1", 100.0)
    assert affinity.account("talk", 100.0 + IDLE) == "account1"
    assert affinity.account("talk", 100.1 + IDLE) is None
    assert len(affinity) == 0


def test_the_account_that_answered_last_counts() -> None:
    affinity = Affinity()
    affinity.remember("talk", "account1", 100.0)
    affinity.remember("talk", "account2", 101.0)
    assert affinity.account("talk", 102.0) == "account2"


def test_an_unknown_conversation_has_no_account() -> None:
    assert Affinity().account("talk", 0.0) is None


def test_the_least_recently_used_conversation_leaves_first() -> None:
    affinity = Affinity()
    for number in range(MOST):
        affinity.remember(str(number), "account1", 0.0)
    affinity.remember("0", "account1", 1.0)
    affinity.remember("new", "account1", 1.0)
    assert len(affinity) == MOST
    assert affinity.account("1", 1.0) is None
    assert affinity.account("0", 1.0) == "account1"
