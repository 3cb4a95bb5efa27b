"""What the pictures of the documentation show is in accord with itself."""

from tests.dashboard import past
from tests.dashboard.stage import busy


def test_the_example_of_the_pictures_adds_up() -> None:
    state = busy()
    rows, now = past.month(state), state["now"]
    today = now // 86_400 * 86_400
    for since in (today, today - 6 * 86_400, today - 29 * 86_400):
        for by in ("key", "model", "client", "day", "hour"):
            answer = past.told(rows, f"since={since}&by={by}", now)
            for name in ("attempts", "succeeded", "failed", "tokens_in", "tokens_out"):
                assert sum(row[name] for row in answer["rows"]) == answer["totals"][name]
    sent = past.told(rows, f"since={today}&by=key", now)
    assert sent["totals"]["attempts"] == state["pool"]["day"]["used"] == state["totals"]["attempts"]
    assert {row["key"]: row["attempts"] for row in sent["rows"]} == {
        key["name"]: key["attempts"] for key in state["keys"]
    }
    assert sum(day["day"]["used"] for day in state["accounts"]) == state["pool"]["day"]["used"]
    assert sum(state["timeline"]["requests"]) == state["totals"]["requests"]
