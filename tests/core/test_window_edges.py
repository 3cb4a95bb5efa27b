"""What stays when a bucket leaves."""

from keywheel.core.window import Counts, Window


def test_a_source_stays_as_long_as_the_bucket_of_its_latest_failure() -> None:
    window = Window(300.0)
    window.add(False, 3_000.0, "k1")
    window.add(False, 3_030.0, "k2")
    assert window.counts(3_299.9) == Counts(2, 2, 2)
    assert window.counts(3_300.0) == Counts(1, 1, 1)
    window.add(True, 3_300.0)
    assert window.counts(3_329.9) == Counts(2, 1, 1)
    assert window.counts(3_330.0) == Counts(1, 0, 0)
