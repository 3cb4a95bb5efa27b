"""The arithmetic and the instruments of the overhead benchmark; what they measure is no test's business."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import (
    command,
    contenders,
    figures,
    lasting,
    load,
    material,
    page,
    processes,
    table,
    upstream,
)
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


def test_markdown_shows_each_figure_with_its_multiple_of_the_limit() -> None:
    shown = table.markdown({"date": "today"}, [_section()])
    assert "| plain | 50.0 (5.00 ×) | 10.0 | ≤ 5 |" in shown.splitlines()
    assert shown.startswith("date today.\n")


def test_what_could_not_be_measured_is_a_dash_and_has_no_ratio() -> None:
    found = {"nginx": figures.middle([10.0, 10.0]), "rival": figures.middle([20.0, float("nan")])}
    shown = table.markdown({}, [Section("CPU", (Row("plain", found),), ratio=True)])
    assert "| plain | 10.0 | – |  |" in shown.splitlines()


def test_rival_without_samples_gets_no_figure() -> None:
    assert not figures.added([[], []], [[1.0], [2.0]], 0.5).rounds


# --- the page --------------------------------------------------------------------------------------


def test_a_run_rewrites_its_own_part_of_the_page_only(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        "a\n<!-- begin bench:one -->\nold\n<!-- end bench:one -->\nb\n"
        "<!-- begin bench:two -->\nkept\n<!-- end bench:two -->\n"
    )
    page.write("one", r"new \1", path)
    assert path.read_text().splitlines() == [
        "a", "<!-- begin bench:one -->", r"new \1", "<!-- end bench:one -->", "b",
        "<!-- begin bench:two -->", "kept", "<!-- end bench:two -->",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="no block three"):
        page.write("three", "", path)


@pytest.mark.parametrize("block", ["overhead", "rivals", "soak"])
def test_the_page_has_a_place_for_every_kind_of_run(block: str) -> None:
    text = page.PAGE.read_text("utf-8")
    assert text.count(f"<!-- begin bench:{block} -->") == 1
    assert text.count(f"<!-- end bench:{block} -->") == 1


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


def test_port_is_read_as_the_kernel_writes_it() -> None:
    assert lasting.port_of("0100007F:1F90") == 8080


def test_an_open_socket_is_found_and_a_closed_one_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        inode = str(os.fstat(bound.fileno()).st_ino)
        assert inode in lasting.sockets(os.getpid())
    assert inode not in lasting.sockets(os.getpid())


def test_idle_time_and_waiting_for_disks_are_not_busy() -> None:
    before = "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3\n"
    after = "cpu  110 5 105 860 20 0 0 0 0 0\ncpu0 1 2 3\n"
    assert processes.busy_between(before, after) == pytest.approx(0.2)


def test_the_processor_is_named() -> None:
    assert command.cpu_model("processor\t: 0\nmodel name\t: Some CPU\n") == "Some CPU"


def test_a_paused_program_stands_still_and_goes_on_afterwards(tmp_path: Path) -> None:
    def state() -> str:
        stat = (processes.PROC / str(program.process.pid) / "stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    with processes.running(
        "child", ["sleep", "60"], tmp_path, {"PATH": os.defpath}, os.sched_getaffinity(0)
    ) as program:
        with processes.paused([program]):
            os.waitpid(program.process.pid, os.WUNTRACED)
            assert state() == "T"
        os.waitpid(program.process.pid, os.WCONTINUED)
        assert state() != "T"


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


def test_a_proxy_that_writes_streams_anew_may_add_events_but_not_lose_any() -> None:
    more = load.Reply(200, b"data: {}\n\n" * 9 + material.DONE, 0.0, 0.0)
    less = load.Reply(200, b"data: {}\n\n" * 4 + material.DONE, 0.0, 0.0)
    load.check(more, 5, exact=False)
    for reply, exact in ((more, True), (less, False)):
        with pytest.raises(load.BadReply):
            load.check(reply, 5, exact=exact)


def test_a_request_carries_the_lines_that_its_contender_needs() -> None:
    head, _, body = load.request("/v1/x", b"{}", "x-a: b").partition(b"\r\n\r\n")
    assert b"\r\nx-a: b\r\n" in head
    assert body == b"{}"


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


# --- all of it -------------------------------------------------------------------------------------


def test_contenders_keep_to_loopback_and_rivals_stay_out_unasked() -> None:
    for contender in contenders.CONTENDERS:
        told = (*contender.command, *(contender.file or ()))
        assert any("127.0.0.1" in part or "bench.relay" in part for part in told), contender.name
    assert {c.name for c in contenders.CONTENDERS if not c.rival} == {
        "keywheel",
        "bare relay",
        "nginx",
    }


def _run(*arguments: str) -> list[dict[str, Any]]:
    script = Path(contenders.__file__).parents[1] / "bench_overhead.py"
    run = [sys.executable, script, "--json", *arguments]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["sections"]


@pytest.mark.timeout(120)
def test_a_run_measures_everything_and_leaves_the_page_alone() -> None:
    before = page.PAGE.read_text("utf-8")
    sections = _run("--quick", "--rounds=1", "--concurrency=2", "--rate=50", "--streams=4")
    titles = [section["title"].split(" ")[0] for section in sections]
    assert titles == ["CPU", "Latency", "First", "Resident"]
    rows = [row for section in sections for row in section["rows"]]
    assert all(isfinite(row["figures"]["keywheel"]["value"]) for row in rows)
    assert page.PAGE.read_text("utf-8") == before


@pytest.mark.timeout(60)
def test_after_a_soak_nothing_is_left() -> None:
    (section,) = _run("--soak", "--soak-seconds=1", "--rate=50")
    found = {row["title"]: row["figures"]["keywheel"]["value"] for row in section["rows"]}
    goals = {row["title"]: float(row["goal"]) for row in section["rows"] if row["goal"] == "0"}
    assert len(goals) == 3
    assert {title: found[title] for title in goals} == goals
