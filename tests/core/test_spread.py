from keywheel.core.spread import spread


def test_it_is_a_number_from_zero_to_one_that_repeats() -> None:
    values = [spread("seed", number) for number in range(200)]
    assert all(0 <= value < 1 for value in values)
    assert values == [spread("seed", number) for number in range(200)]
    assert 0.4 < sum(values) / 200 < 0.6


def test_names_are_kept_apart() -> None:
    assert spread("a", "bc") != spread("ab", "c")
