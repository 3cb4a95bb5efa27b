"""What `import keywheel` gives, what it costs, and what it leaves alone."""

import ast
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import keywheel
from keywheel import client, errors
from keywheel.errors import ConfigError, Error, RequestFailed

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "keywheel"
KEY = "sk-or-v1-" + "5ec2e7" * 10
SERVER_ONLY = {
    "uvicorn",
    "uvloop",
    "starlette",
    "structlog",
    "rich",
    "click",
    "httptools",
    "dotenv",
}
TRIES = """
import json, sys
seen = []
watched = ("socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.system", "shutil.", "os.mkdir")
sys.addaudithook(lambda event, _args: seen.append(event) if event.startswith(watched) else None)
sys.argv = ["keywheel", "--help"]
before = set(sys.modules)
try:
    import {module}
    {statement}
except SystemExit as end:
    assert not end.code
import threading
print(json.dumps([sorted(set(sys.modules) - before), seen, threading.active_count()]), file=sys.stderr)
"""


def imported(module: str, statement: str = "pass") -> tuple[set[str], list[str], int]:
    """Top modules loaded, system calls made and threads alive after an import in a fresh process."""
    code = TRIES.format(module=module, statement=statement)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules, calls, threads = json.loads(done.stderr)
    return set(modules), calls, threads


# --- names -----------------------------------------------------------------------------------------


def test_the_exported_names_exist_and_are_described() -> None:
    assert keywheel.__all__ == sorted(keywheel.__all__)
    for name in keywheel.__all__:
        assert getattr(keywheel, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'rotor'"):
        _ = keywheel.rotor  # pyright: ignore


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert keywheel.__version__ == project["version"]


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").exists()


# --- the price of an import ------------------------------------------------------------------------


def test_importing_keywheel_loads_none_of_the_gateway() -> None:
    modules, calls, threads = imported("keywheel")
    tops = {name.partition(".")[0] for name in modules}
    assert not tops & SERVER_ONLY
    assert not [name for name in modules if name.startswith(("keywheel.gateway", "keywheel.sim"))]
    foreign = tops - set(sys.stdlib_module_names) - {"keywheel"}
    assert len(foreign) <= 5
    assert (calls, threads) == ([], 1)


def test_importing_keywheel_costs_little_more_than_importing_asyncio() -> None:
    """CPU time, the least of five each, taken in turn, less that of a Python that imports nothing."""

    def took(statement: str) -> float:
        process = subprocess.Popen([sys.executable, "-c", statement])
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return used.ru_utime + used.ru_stime

    rounds = [(took("pass"), took("import keywheel"), took("import asyncio")) for _ in range(5)]
    nothing, ours, theirs = map(min, zip(*rounds, strict=True))
    assert ours - nothing < 1.5 * (theirs - nothing)


@pytest.mark.parametrize("statement", ["keywheel.Keywheel", "keywheel.transport"])
def test_what_needs_the_engine_loads_none_of_the_gateway_either(statement: str) -> None:
    modules, calls, threads = imported("keywheel", statement)
    server = SERVER_ONLY - {"dotenv"}  # which reads .env.local
    assert not {name.partition(".")[0] for name in modules} & (server | {"sqlite3", "redis"})
    assert (calls, threads) == ([], 1)


def test_asking_for_help_touches_no_network_and_starts_nothing() -> None:
    modules, calls, threads = imported("keywheel.__main__")
    assert "keywheel.gateway.app" not in modules
    assert (calls, threads) == ([], 1)


def test_importing_the_gateway_touches_no_network_either() -> None:
    _, calls, threads = imported("keywheel.gateway.run")
    assert (calls, threads) == ([], 1)


# --- errors ----------------------------------------------------------------------------------------

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and kind.__module__ == errors.__name__
]


def test_there_is_one_tree_of_errors_and_the_docs_show_it() -> None:
    assert all(issubclass(kind, Error) for kind in KINDS)
    for kind in KINDS:
        assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if issubclass(kind, RequestFailed)])
def test_a_failed_request_says_when_to_come_back_and_what_was_tried(
    kind: type[RequestFailed],
) -> None:
    error = kind("why", param="model", retry_after=2.5, attempts=3)
    assert str(error) == error.message == "why"
    assert (error.param, error.retry_after, error.attempts) == ("model", 2.5, 3)
    assert error.status >= 400
    assert error.code


# --- get_api_stats ---------------------------------------------------------------------------------


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No default wheel yet, and two keys to make one of."""
    monkeypatch.setattr(client, "_default", None)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENROUTER_API_KEY", f"{KEY} {KEY}2")
    for name in ("OPENROUTER_API_KEYS", "OPENROUTER_API_KEYS_FILE", "OPENROUTER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    client._default = None


SHAPE: dict[str, Any] = {
    "totals": ["requests", "succeeded", "failed", "attempts", "fallbacks", "rate_limited", "tokens_in", "tokens_out",
               "cost_usd"],
    "keys": ["name", "account", "state", "reason", "until", "attempts", "succeeded", "failed", "success_rate",
             "window", "latency_ms", "ttft_ms", "last_used", "last_error"],
    "accounts": ["name", "keys", "day", "minute"],
}  # fmt: skip


@pytest.mark.usefixtures("fresh")
def test_statistics_have_the_shape_of_the_contract() -> None:
    figures = keywheel.get_api_stats().to_dict()
    assert figures["schema_version"] == 1
    assert set(figures) == {
        "schema_version",
        "since",
        "totals",
        "keys",
        "accounts",
        "models",
        "errors",
    }
    assert set(SHAPE["totals"]) <= set(figures["totals"])
    assert len(figures["keys"]) == len(figures["accounts"]) == 2
    for name in ("keys", "accounts"):
        for row in figures[name]:
            assert set(SHAPE[name]) <= set(row)
    assert set(figures["accounts"][0]["day"]) == {"used", "limit", "remaining", "resets_at"}
    assert json.dumps(figures)
    assert "5ec2e7" not in json.dumps(figures)


@pytest.mark.usefixtures("fresh")
def test_one_wheel_serves_the_whole_process_and_asking_starts_nothing() -> None:
    before = threading.active_count()
    assert client.default_engine() is client.default_engine()
    keywheel.get_api_stats()
    assert threading.active_count() == before


@pytest.mark.usefixtures("fresh")
def test_many_threads_make_one_wheel() -> None:
    made: list[object] = []
    threads = [
        threading.Thread(target=lambda: made.append(client.default_engine())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, made))) == 1


@pytest.mark.usefixtures("fresh")
def test_a_wrong_setting_is_told_and_can_be_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYWHEEL_PORT", "x")
    with pytest.raises(ConfigError, match=r"gateway\.port: a whole number is expected"):
        keywheel.get_api_stats()
    monkeypatch.delenv("KEYWHEEL_PORT")
    assert keywheel.get_api_stats()


# --- what the source never does --------------------------------------------------------------------

CODE_FROM_DATA = {"eval", "exec", "compile", "__import__"}
UNPACKERS = {"pickle", "marshal", "shelve", "yaml", "dill", "jsonpickle"}
UNVERIFIED = ("verify=False", "CERT_NONE", "check_hostname = False", "_create_unverified")


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_no_code_comes_from_data_and_no_certificate_goes_unverified(path: Path) -> None:
    """Requirements C16 and C26."""
    text = path.read_text("utf-8")
    assert not [sign for sign in UNVERIFIED if sign in text]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in CODE_FROM_DATA
        if isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & UNPACKERS
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] not in UNPACKERS
