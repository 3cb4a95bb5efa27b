"""Names with signs in them."""

from keywheel.core.types import Kind, Scope
from tests.core.build import pool


def test_a_models_name_may_contain_the_sign_between_key_and_model() -> None:
    made = pool(("k1@a1",), ("lab/m+1",))
    for kind, name in ((Kind.LANE, "k1+lab/m+1"), (Kind.ACCESS, "a1+lab/m+1")):
        (found,) = made.roster.find(Scope(kind, name))
        assert found.scope == Scope(kind, name)
