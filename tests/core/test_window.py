from keywheel.core.window import Counts, Window
from tests.core.build import NOON

WIDTH = 30.0


def test_an_unused_window_is_empty() -> None:
    assert Window().counts(NOON) == Counts(0, 0, 0)


def test_successes_and_failures_are_counted_exactly() -> None:
    window = Window()
    for ok in (True, False, True, False, False):
        window.add(ok, NOON, "k1")
    assert window.counts(NOON) == Counts(5, 3, 1)


def test_a_burst_in_one_bucket_is_not_averaged_away() -> None:
    window = Window()
    window.add(True, NOON)
    for _ in range(50):
        window.add(False, NOON + 250, "k1")
    assert window.counts(NOON + 250) == Counts(51, 50, 1)


def test_whole_buckets_leave_after_the_length_of_the_window() -> None:
    window = Window()
    window.add(False, NOON, "k1")
    window.add(True, NOON + WIDTH)
    assert window.counts(NOON + 299) == Counts(2, 1, 1)
    assert window.counts(NOON + 300) == Counts(1, 0, 0)
    assert window.counts(NOON + 330) == Counts(0, 0, 0)


def test_after_a_longer_idle_time_it_is_empty() -> None:
    window = Window()
    for step in range(12):
        window.add(False, NOON + step * WIDTH, "k1")
    assert window.counts(NOON + 12 * WIDTH).total == 9
    assert window.counts(NOON + 5_000) == Counts(0, 0, 0)
    window.add(True, NOON + 5_000)
    assert window.counts(NOON + 5_000) == Counts(1, 0, 0)


def test_sources_are_different_counterparts_of_failures_only() -> None:
    window = Window()
    window.add(True, NOON, "k9")
    for source in ("k1", "k2", "k1"):
        window.add(False, NOON, source)
    assert window.counts(NOON).sources == 2


def test_a_source_stays_until_its_latest_failure_leaves() -> None:
    window = Window()
    window.add(False, NOON, "k1")
    window.add(False, NOON, "k2")
    window.add(False, NOON + 60, "k1")
    assert window.counts(NOON + 300) == Counts(1, 1, 1)


def test_a_reading_taken_just_before_another_is_counted_all_the_same() -> None:
    """Threads read the clock before they get the lock: moments may arrive in the wrong order."""
    window = Window()
    window.add(True, NOON + WIDTH)
    window.add(False, NOON + WIDTH - 0.001, "k1")
    assert window.counts(NOON + WIDTH) == Counts(2, 1, 1)


def test_clearing_forgets_everything() -> None:
    window = Window()
    window.add(False, NOON, "k1")
    window.clear()
    assert window.counts(NOON) == Counts(0, 0, 0)


def test_the_length_is_a_setting() -> None:
    window = Window(60.0)
    window.add(True, NOON)
    assert window.counts(NOON + 59).total == 1
    assert window.counts(NOON + 60).total == 0
