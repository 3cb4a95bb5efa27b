"""The classification table is what routing A.5 says, and makes sense."""

import re

from keywheel.core.rows import ROWS
from keywheel.core.types import (
    BLAME,
    WINDOW_SCOPES,
    Charge,
    Fault,
    Kind,
    Length,
    Provenance,
    Retry,
    Window,
)

TABLE = list(ROWS.values())


def test_numbers_and_names_are_stable() -> None:
    """Logs, metrics and explanations name them; a change here is a change for users."""
    assert [f"{row.number} {row.name}" for row in TABLE] == [
        "1 unreachable", "2 bad-certificate", "3 redirect", "4 context-too-long", "4b payload-too-large",
        "5 bad-request", "6 untyped-400", "6m untyped-400-model", "7 bad-key-400", "8 degraded-400",
        "9 content-refused", "10 bad-key", "11 no-credits", "11a key-limit", "11b cannot-afford-this",
        "11c in-flight-budget", "12 forbidden", "12a region", "12b harness-gate", "13 account-settings",
        "13b capability", "14 model-gone", "15 wrong-path", "16 timeout", "17 transient", "18 platform-minute",
        "19 platform-day", "20 upstream-pool", "20c model-capacity", "21 unclear-429", "22 edge-refusal",
        "23 server-error", "24 provider-down", "25 edge", "26 overloaded", "27b finish-error", "28 empty",
        "28b budget-spent-on-reasoning", "29 malformed", "31 broken-after-content", "34 other-4xx", "36 own-limit",
    ]  # fmt: skip
    assert len({row.number for row in TABLE}) == len(TABLE)


def test_a_row_blocks_only_what_its_fault_blames() -> None:
    for row in TABLE:
        assert (row.fault is None) == (row.name == "own-limit")
        assert row.blocks is None or (row.fault and row.blocks in BLAME[row.fault])


def test_a_block_has_a_length_and_a_provenance() -> None:
    for row in TABLE:
        lasts = row.seconds is not None or row.ladder is not None or row.length is not Length.NONE
        assert lasts == (row.blocks is not None) == (row.provenance is not None)
        assert row.provenance is not Provenance.OPERATOR


def test_a_moment_said_has_something_to_fall_back_on() -> None:
    for row in TABLE:
        if row.length is Length.SAID:
            assert row.ladder or row.seconds or row.charge is Charge.MINUTE


def test_key_and_account_faults_have_a_budget_of_their_own() -> None:
    for row in TABLE:
        assert row.rotates == (row.fault in (Fault.KEY, Fault.ACCOUNT))
        assert row.window is Window.NO or not row.rotates


def test_a_fault_of_the_ask_blocks_and_counts_nothing() -> None:
    for row in TABLE:
        if row.fault is Fault.CLIENT:
            assert (row.blocks, row.window, row.shrinks, row.alarm) == (
                None,
                Window.NO,
                False,
                False,
            )


def test_texts_and_statuses_are_sound() -> None:
    for row in TABLE:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", row.name)
        assert row.signal
        assert row.status == 200 or 400 <= row.status <= 503


def test_quota_is_charged_where_the_account_is_blocked() -> None:
    assert {row.name: row.charge for row in TABLE if row.charge is not Charge.NOTHING} == {
        "platform-minute": Charge.MINUTE,
        "platform-day": Charge.DAY,
    }


def test_only_the_account_itself_is_closed_on_both_sides() -> None:
    assert [row.name for row in TABLE if row.paid_too] == ["no-credits"]


def test_only_one_row_is_tried_again_on_the_same_lane() -> None:
    assert [row.name for row in TABLE if row.retry is Retry.SAME] == ["transient"]


def test_an_unreachable_upstream_disables_nothing_for_its_errors() -> None:
    assert ROWS["unreachable"].window is Window.NO


def test_windows_and_blame_speak_of_scopes_that_count_errors() -> None:
    assert {kind for kinds in WINDOW_SCOPES.values() for kind in kinds} == {
        Kind.LANE,
        Kind.MODEL,
        Kind.KEY,
    }
