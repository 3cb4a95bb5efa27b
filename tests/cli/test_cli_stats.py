"""`keywheel stats` over time: by key, model, hour and day, from the gateway or from the file, never counted twice."""

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keywheel.gateway.history import BY, history
from keywheel.stores import Figures
from keywheel.stores.sqlite import SqliteStore
from tests.cli.commandline import data, keywheel, refusal
from tests.journeys.rig import rig

HOUR = 3_600
NOBODY = {"KEYWHEEL_PORT": "9"}
MODEL = "a/small-8b:free"


def rows(now: float) -> list[Figures]:
    """Two keys, three hours: the present one, two hours ago, ten days ago."""
    hour = int(now // HOUR)
    return [
        Figures(h, key, MODEL, "", 10, 8, 2, 1_000, 200, 20.0, 4.0, 8)
        for h in (hour, hour - 2, hour - 240)
        for key in ("primary", "secondary")
    ]


@pytest.fixture
def kept(folder: Path) -> Path:
    """A state file with statistics."""
    path = folder / "state" / "keywheel" / "state.db"
    store = SqliteStore(path)
    store.add_history(rows(time.time()))
    store.close()
    return path


@pytest.mark.usefixtures("kept")
def test_without_a_gateway_figures_come_from_the_file() -> None:
    told = data("stats", "--since", "24h", **NOBODY)
    assert [(row["key"], row["attempts"]) for row in told["rows"]] == [
        ("primary", 20),
        ("secondary", 20),
    ]
    assert told["totals"]["success_rate"] == 0.8
    assert told["totals"]["ttft_ms"] == 500.0
    assert told["totals"]["latency_ms"] == 2_000.0
    assert data("stats", "--since", "30d", **NOBODY)["totals"]["attempts"] == 60


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(("by", "number"), [("key", 2), ("model", 1), ("hour", 3)])
def test_rows_by_whatever_one_likes_add_up_to_the_same(by: str, number: int) -> None:
    told = data("stats", "--since", "30d", "--by", by, **NOBODY)
    assert len(told["rows"]) == number
    assert sum(row["attempts"] for row in told["rows"]) == told["totals"]["attempts"] == 60


@pytest.mark.usefixtures("kept")
def test_values_for_a_spreadsheet() -> None:
    result = keywheel("stats", "--since", "30d", "--by", "key", "--csv", **NOBODY)
    head, *lines = csv.reader(io.StringIO(result.stdout))
    assert (result.exit_code, head[:3]) == (0, ["key", "attempts", "succeeded"])
    assert [line[:4] for line in lines] == [
        ["primary", "30", "24", "6"],
        ["secondary", "30", "24", "6"],
    ]


@pytest.mark.usefixtures("kept")
def test_the_overview_shows_today_and_seven_days_without_a_gateway_too() -> None:
    result = keywheel("stats", COLUMNS="80", **NOBODY)
    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    primary = next(line for line in lines if line[:1] == ["primary"])
    assert primary[-3:] == ["20", "80%", "2,400"]
    assert "From the state file: no gateway answers" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("columns", ["40", "80", "120"])
def test_a_table_over_time_fits(columns: str) -> None:
    out = keywheel("stats", "--since", "30d", "--by", "model", COLUMNS=columns, **NOBODY).stdout
    assert max(map(len, out.splitlines())) <= int(columns)
    assert "…" not in out


def test_neither_gateway_nor_file_is_4() -> None:
    assert refusal(4, "stats", "--since", "7d", **NOBODY).startswith("no gateway answers at")


def test_a_damaged_file_is_named(kept: Path) -> None:
    kept.write_bytes(b"no database at all" * 300)
    assert "is no sound state file" in refusal(1, "stats", "--since", "7d", **NOBODY)


def test_the_running_gateway_is_asked_first() -> None:
    with rig() as running:
        told = data("stats", "--since", "24h", KEYWHEEL_PORT=running.address.rpartition(":")[2])
    assert (told["rows"], told["totals"]["attempts"], told["by"]) == ([], 0, "key")


@pytest.mark.parametrize(
    "when", ["7d", "24h", "90m", "2w", "today", "2026-11-25", "2026-11-25T10:00+01:00"]
)
def test_moments_that_are_understood(when: str) -> None:
    assert (
        keywheel("stats", "--since", when, **NOBODY).exit_code == 4
    )  # understood: only nobody answers


@pytest.mark.parametrize("when", ["", "yesterday", "7", "-1d", "7y", "2026-13-01", "99999999d"])
def test_moments_that_are_not(when: str) -> None:
    result = keywheel("stats", "--since", when, **NOBODY)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "is not like 7d, 24h, today" in result.stderr


def test_two_forms_at_once_are_wrong_usage() -> None:
    assert keywheel("stats", "--since", "7d", "--csv", "--json").exit_code == 2


# --- GET /admin/history ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def asked() -> Iterator[Any]:
    with rig() as running:

        def ask(query: str) -> Any:
            return running.http.get(f"/admin/history{query}")

        yield ask


@pytest.mark.parametrize(
    "query",
    [
        "?since=x",
        "?since=nan",
        "?since=inf",
        "?since=-1",
        "?since=1e30",
        "?until=x",
        "?by=colour",
        "?by=",
    ],
)
def test_a_wrong_question_is_400_and_says_what_is_right(asked: Any, query: str) -> None:
    reply = asked(query)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] in ("since", "by")


@pytest.mark.parametrize("by", BY)
def test_without_a_state_there_are_no_rows_and_the_sums_are_zero(asked: Any, by: str) -> None:
    told = asked(f"?by={by}").json()
    assert (told["schema_version"], told["by"], told["rows"]) == (1, by, [])
    assert told["since"] % 86_400 == 0
    assert told["totals"]["success_rate"] is None
    assert asked("").headers["cache-control"] == "no-store"


def test_days_and_hours_are_their_beginnings() -> None:
    midnight = 20_000 * 24
    figures = [Figures(midnight + h, "primary", MODEL, attempts=1) for h in (0, 5, 23, 24)]
    days = history(figures, "day", 0.0, 0.0)["rows"]
    assert [(row["day"], row["attempts"]) for row in days] == [
        (midnight * HOUR, 3),
        ((midnight + 24) * HOUR, 1),
    ]
    hours = history(figures, "hour", 0.0, 0.0)["rows"]
    assert hours[1]["hour"] == (midnight + 5) * HOUR
    json.dumps(days)
