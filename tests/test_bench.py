"""The arithmetic and the instruments of the overhead benchmark; what they measure is no test's business."""

import asyncio
import json
import os
import subprocess
import sys
import time
from itertools import pairwise

import pytest

from scripts.bench import figures, load, material, processes, table, upstream
from scripts.bench.figures import Figure, Row, Section
from scripts.bench.measure import turned

# --- figures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1.0), (0.25, 1.75), (0.5, 2.5), (0.99, 3.97), (1.0, 4.0)]
)
def test_percentile_lies_between_neighbours_in_proportion(share: float, expected: float) -> None:
    assert figures.percentile([3.0, 1.0, 4.0, 2.0], share) == pytest.approx(expected)


def test_percentile_of_one_sample_is_that_sample() -> None:
    assert figures.percentile([7.0], 0.99) == 7.0


def test_arrivals_keep_the_rate_the_order_and_the_end() -> None:
    times = figures.arrivals(100.0, 60.0, seed=1)
    assert 5700 < len(times) < 6300  # 6000 ± 4 standard deviations of a Poisson process
    assert all(earlier < later for earlier, later in pairwise(times))
    assert times[0] > 0
    assert times[-1] < 60.0


def test_arrivals_are_the_same_for_the_same_seed_only() -> None:
    assert figures.arrivals(50.0, 2.0, seed=3) == figures.arrivals(50.0, 2.0, seed=3)
    assert figures.arrivals(50.0, 2.0, seed=3) != figures.arrivals(50.0, 2.0, seed=4)


def test_an_event_costs_what_the_longer_stream_costs_more() -> None:
    assert figures.per_event(long=1090.0, short=100.0, events=99) == 10.0


def test_added_latency_is_taken_round_by_round() -> None:
    direct = [[1.0, 2.0, 3.0], [11.0, 12.0, 13.0], [1.0, 2.0, 3.0]]
    through = [[2.0, 3.0, 4.0], [12.0, 13.0, 14.0], [1.0, 2.0, 3.0]]
    assert figures.added(through, direct, 0.5) == Figure(1.0, (1.0, 1.0, 0.0))


def test_ratio_is_of_the_medians_and_of_each_round() -> None:
    upper, lower = figures.middle([10.0, 40.0, 30.0]), figures.middle([5.0, 10.0, 30.0])
    assert figures.ratios(upper, lower) == Figure(3.0, (2.0, 4.0, 1.0))


def test_each_target_goes_first_in_turn() -> None:
    assert [turned("abc", number)[0] for number in range(4)] == ["a", "b", "c", "a"]


# --- the table -------------------------------------------------------------------------------------


def _section(*, nginx: bool = True) -> Section:
    found = {"keywheel": figures.middle([40.0, 50.0, 60.0])}
    if nginx:
        found["nginx"] = figures.middle([10.0, 10.0, 12.0])
    return Section("CPU", (Row("plain", found, "≤ 5"),), ratio=True)


def test_table_shows_figures_their_spread_the_ratio_and_the_goal() -> None:
    shown = table.text({"nginx": "1.2"}, [_section()])
    row = next(line for line in shown.splitlines() if line.startswith("  plain"))
    assert row.split("   ") == [
        "  plain", "50.0 [40.0 … 60.0]", "10.0 [10.0 … 12.0]", "5.00 [4.00 … 5.00]", " ≤ 5",
    ]  # fmt: skip
    assert shown.startswith("nginx 1.2\n")


def test_table_without_nginx_has_no_ratio() -> None:
    shown = table.text({}, [_section(nginx=False)])
    assert "ratio" not in shown.partition("What to know")[0]
    assert "50.0" in shown


def test_record_is_json_with_every_round_and_the_ratio() -> None:
    record = json.loads(json.dumps(table.record({"cores": "2"}, [_section()])))
    row = record["sections"][0]["rows"][0]
    assert row["figures"]["keywheel"]["rounds"] == [40.0, 50.0, 60.0]
    assert row["ratio"]["value"] == 5.0
    assert record["schema_version"] == table.SCHEMA_VERSION


# --- /proc -----------------------------------------------------------------------------------------


def test_cpu_of_another_process_is_what_that_process_says_itself() -> None:
    burn = (
        "import time\n"
        "while time.process_time() < 0.06: pass\n"
        "print(time.process_time(), flush=True)\n"
        "input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        said = float(child.stdout.readline())
        assert processes.cpu_seconds(child.pid) == pytest.approx(said, abs=0.01)
        child.communicate(b"\n")


def test_cpu_agrees_with_proc_stat_to_its_ticks() -> None:
    until = time.process_time() + 0.02
    while time.process_time() < until:
        pass
    ticks = os.times()
    assert processes.cpu_seconds(os.getpid()) == pytest.approx(ticks.user + ticks.system, abs=0.03)


def test_parent_is_found_behind_a_name_with_spaces_and_parentheses() -> None:
    assert processes.parent("42 (a) b (c) S 17 42 42 0 -1 4194304") == 17


def test_this_process_is_a_child_of_its_parent() -> None:
    assert processes.parents()[os.getpid()] == os.getppid()


def test_descendants_are_children_and_their_children_but_no_strangers() -> None:
    assert sorted(processes.descendants(1, {2: 1, 3: 2, 4: 9, 1: 0})) == [1, 2, 3]


def test_resident_memory_is_read_in_bytes_and_none_of_a_dead_process() -> None:
    assert processes.resident("Name:\tx\nVmRSS:\t     2048 kB\nThreads:\t1\n") == 2 << 20
    assert processes.resident("Name:\tx\nState:\tZ (zombie)\n") == 0


def test_proxy_gets_a_core_of_its_own_if_there_are_two() -> None:
    assert processes.share_out({0, 1, 2}) == processes.Cores({2}, {0, 1})
    assert processes.share_out({3}) == processes.Cores({3}, {3})


# --- what travels ----------------------------------------------------------------------------------


def test_a_request_says_what_the_upstream_shall_answer() -> None:
    wanted = material.Load("x", events=7, spacing=0.002, prompt_bytes=1000)
    assert material.wish(wanted.body(0)) == (7, 0.002)
    assert material.wish(b'{"messages":[]}') == (0, 0.0)


def test_prompts_have_the_size_that_is_measured_and_differ() -> None:
    wanted = material.Load("x", prompt_bytes=200_000)
    assert 200_000 < len(wanted.body(0)) < 215_000
    assert wanted.body(0) != wanted.body(1)


def test_answers_are_json_of_the_stated_sizes() -> None:
    assert json.loads(material.plain_answer())["usage"]["total_tokens"] == 142
    assert len(material.plain_answer()) == pytest.approx(1024, abs=8)
    events = material.content_events(64)
    assert sum(map(len, events)) / 64 == pytest.approx(300, abs=20)
    assert json.loads(events[0].removeprefix(b"data: "))["choices"][0]["delta"]["content"]
    assert len(json.loads(material.models_answer(5))["data"]) == 5


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, b'{"error":{}}'),
        (200, b"data: {}\n\n" * 4),  # no [DONE]
        (200, b"data: {}\n\n" * 2 + material.DONE),  # an event is missing
    ],
)
def test_a_wrong_answer_ends_the_benchmark(status: int, body: bytes) -> None:
    with pytest.raises(load.BadReply):
        load.check(load.Reply(status, body, 0.0, 0.0), events=1)


# --- generator and upstream together ---------------------------------------------------------------


async def _served(events: int, times: list[float]) -> list[tuple[float, load.Reply]]:
    answers = upstream.Answers(models=1)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: upstream.Visitor(answers), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    body = material.Load("x", events=events).body(0)
    try:
        requests = [load.request("/api/v1/chat/completions", body)]
        async with load.connected(port, 1) as idle:
            assert await load.closed_loop(idle, requests, events, 0.0) == 1
            return await load.open_loop(port, idle, requests, events, times)
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("events", [0, 1, 100])
def test_open_loop_answers_every_arrival_and_counts_from_its_intended_start(events: int) -> None:
    times = [0.001, 0.002, 0.003, 0.009]
    taken = asyncio.run(_served(events, times))
    starts = [due for due, _ in taken]
    assert [round(due - starts[0] + times[0], 6) for due in starts] == times
    assert all(due < reply.first <= reply.last for due, reply in taken)
