"""The command line: `keywheel serve`, `sim`, `chat`, `stats`, `keys`, `models`.

Data goes to standard output, talk to standard error.
"""

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.table import Table

import keywheel
from keywheel import config as settings
from keywheel.environment import Environment, gather
from keywheel.errors import ConfigError, Error
from keywheel.keys import KeyEntry
from keywheel.secret import Secret

EXIT_CODES = (
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 configuration or no keys, 4 upstream unreachable, "
    "5 all keys or models exhausted, 130 interrupted."
)
FAILED, NO_CONFIG, UNREACHABLE, EXHAUSTED = 1, 3, 4, 5
NO_KEYS = (
    "no API key: set OPENROUTER_API_KEY in the environment or in .env.local (further keys: OPENROUTER_API_KEY_2 …); "
    "to try keywheel without a key: keywheel serve --sim"
)
SCHEMA_VERSION = 1


def main() -> None:
    """The entry point of the `keywheel` command."""
    cli(prog_name="keywheel")


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(keywheel.__version__, prog_name="keywheel")
def cli() -> None:
    """One dependable, free LLM endpoint out of your OpenRouter keys."""


# --- serve -----------------------------------------------------------------------------------------


@cli.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8787]")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file to use instead of the usual places.",
)
@click.option(
    "--sim", "scenario", is_flag=False, flag_value="calm", help="Serve from the built-in simulator."
)
@click.option("--demo", is_flag=True, help="Serve from the simulator if no key is set.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]))
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]))
def serve(  # noqa: PLR0913 - one argument an option
    host: str | None,
    port: int | None,
    config_file: Path | None,
    scenario: str | None,
    demo: bool,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run the gateway."""
    flags = settings.from_flags(
        gateway__host=host, gateway__port=port, log__level=log_level, log__format=log_format
    )
    with _explained():
        found = gather(flags, config_file=config_file)
        if scenario is None and not found.keys:
            if not demo:
                raise ConfigError(NO_KEYS)
            scenario = "calm"
        _serve(found, scenario)


def _serve(found: Environment, scenario: str | None) -> None:
    from keywheel.gateway import run  # noqa: PLC0415 - only serving needs the server
    from keywheel.gateway.guard import check_settings  # noqa: PLC0415

    check_settings(found.config.gateway)
    gateway = found.config.gateway
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(run.listen(gateway.host, gateway.port))
        config, keys = found.config, found.keys
        if scenario is not None:
            config, keys = stack.enter_context(_simulated(found, scenario))
        _run_gateway(found, config, keys, bound, scenario)


def _run_gateway(
    found: Environment,
    config: settings.Config,
    keys: Sequence[KeyEntry],
    bound: Any,
    scenario: str | None,
) -> None:
    from keywheel.engine import Engine  # noqa: PLC0415
    from keywheel.gateway import logs, run  # noqa: PLC0415

    engine = Engine(config, keys)
    gateway = run.build(engine)
    _greet(config, len(keys), run.url(bound), scenario, keyless=not found.keys)
    logs.set_up(config.log, engine.secrets.values())
    engine.listen(logs.tell)
    for warning in found.warnings:
        _say(warning)
    run.serve(gateway, bound, config.gateway)


@contextlib.contextmanager
def _simulated(
    found: Environment, name: str
) -> Generator[tuple[settings.Config, tuple[KeyEntry, ...]]]:
    """A simulator in this process, and the settings that lead to it."""
    from keywheel import sim  # noqa: PLC0415
    from keywheel.gateway import run  # noqa: PLC0415
    from keywheel.keys import label  # noqa: PLC0415

    scenario = _scenario(name)
    keys = tuple(
        KeyEntry(label(number), Secret(key), "simulator")
        for number, key in enumerate(sim.demo_keys(scenario), 1)
    )
    app = sim.create_app(sim.World(scenario))
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as address:
        upstream = replace(found.config.upstream, base_url=f"{address}/api/v1")
        yield replace(found.config, upstream=upstream), keys


def _scenario(name: str) -> Any:
    from keywheel import sim  # noqa: PLC0415

    try:
        return sim.scenario(name)
    except sim.ScenarioError as error:
        raise ConfigError(str(error)) from error


def _greet(
    config: settings.Config, keys: int, address: str, scenario: str | None, *, keyless: bool
) -> None:
    """The first line says where answers come from: nobody should take invented ones for real."""
    if scenario is None:
        click.echo(
            f"keywheel {keywheel.__version__} serves from {config.upstream.base_url} with {keys} key(s)"
        )
    else:
        why = "no OPENROUTER_API_KEY is set" if keyless else "--sim"
        click.echo(
            f"keywheel {keywheel.__version__} serves from the built-in simulator ({why}), scenario {scenario}: "
            "answers are invented"
        )
    click.echo(f"OpenAI base URL: {address}/v1")
    click.echo(
        f"Try: curl {address}/v1/chat/completions -H 'content-type: application/json' "
        '-d \'{"model":"auto","messages":[{"role":"user","content":"Hello"}]}\''
    )
    sys.stdout.flush()


# --- sim -------------------------------------------------------------------------------------------


@cli.command("sim")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8788, show_default=True)
@click.option(
    "--scenario",
    "name",
    default="calm",
    show_default=True,
    help="A named scenario, or a TOML file.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--speed",
    type=float,
    default=1.0,
    show_default=True,
    help="Times faster than life; inf: no delays.",
)
def simulate(host: str, port: int, name: str, seed: int, speed: float) -> None:
    """Run the OpenRouter simulator alone."""
    from keywheel import sim  # noqa: PLC0415
    from keywheel.gateway import run  # noqa: PLC0415

    with _explained():
        scenario = _scenario(name)
        app = sim.create_app(sim.World(scenario, seed=seed), speed=speed)
        with run.listen(host, port) as bound:
            click.echo(
                f"OpenRouter, simulated (scenario {name}, seed {seed}): {run.url(bound)}/api/v1"
            )
            for number, key in enumerate(sim.demo_keys(scenario), 1):
                click.echo(f"  key {number}: {key}")
            sys.stdout.flush()
            run.serve(app, bound, settings.GatewaySettings())


# --- chat ------------------------------------------------------------------------------------------


@cli.command()
@click.argument("prompt")
@click.option("--model", default="auto", show_default=True)
@click.option("--stream", is_flag=True, help="Print the answer as it comes.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print text, model, key and attempts as one object."
)
def chat(prompt: str, model: str, stream: bool, as_json: bool) -> None:
    """Ask once, without a gateway. PROMPT "-" reads standard input."""
    from keywheel.engine import Engine  # noqa: PLC0415
    from keywheel.gateway.once import Answer, ask  # noqa: PLC0415

    text = sys.stdin.read() if prompt == "-" else prompt
    with _explained():
        found = gather()
        if not found.keys:
            raise ConfigError(NO_KEYS)
        engine = Engine(found.config, found.keys)
        show: Callable[[str], None] = _print_piece if stream and not as_json else _ignore
        answer: Answer = ask(engine, text, model, show)
    if answer.problem:
        _fail(answer.problem.message, EXHAUSTED if answer.problem.status in (429, 503) else FAILED)
    if as_json:
        _print_json(
            {
                "text": answer.text,
                "model": answer.model,
                "key": answer.key,
                "attempts": answer.attempts,
            }
        )
    else:
        click.echo("" if stream else answer.text)


def _print_piece(piece: str) -> None:
    click.echo(piece, nl=False)
    sys.stdout.flush()


def _ignore(_piece: str) -> None:
    """Nothing is shown before the answer is complete."""


# --- reading ---------------------------------------------------------------------------------------


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="The whole of GET /admin/stats.")
def stats(as_json: bool) -> None:
    """Usage figures of the running gateway."""
    with _explained():
        report = _from_gateway("/admin/stats")
    if as_json:
        _print_json(report)
        return
    totals = report["totals"]
    click.echo(
        "  ".join(
            f"{name} {totals[name]}"
            for name in ("requests", "succeeded", "failed", "attempts", "fallbacks")
        )
    )
    table = Table("key", "account", "state", "attempts", "success", "p50 ms", "last error")
    for key in report["keys"]:
        table.add_row(
            key["name"], key["account"], key["reason"] or key["state"], str(key["attempts"]),
            _percent(key["success_rate"]), _figure(key["latency_ms"]["p50"]), key["last_error"] or "",
        )  # fmt: skip
    Console().print(table)


@cli.group()
def keys() -> None:
    """Upstream keys."""


@keys.command("list")
@click.option("--json", "as_json", is_flag=True)
def list_keys(as_json: bool) -> None:
    """The keys that are set, by label; a key itself is never shown."""
    with _explained():
        found = gather()
        if not found.keys:
            raise ConfigError(NO_KEYS)
    configured = {label: name for name, a in found.config.accounts.items() for label in a.keys}
    rows = [
        {"name": key.label, "account": configured.get(key.label), "origin": key.origin}
        for key in found.keys
    ]
    if as_json:
        _print_json({"keys": rows})
        return
    table = Table("key", "account", "from")
    for row in rows:
        table.add_row(row["name"], row["account"] or "as GET /key says", row["origin"])
    Console().print(table)


@cli.command()
@click.option("--all", "show_all", is_flag=True, help="Also those that are no candidates, and why.")
@click.option("--json", "as_json", is_flag=True)
def models(show_all: bool, as_json: bool) -> None:
    """The free models that the upstream lists now, in order of preference."""
    from keywheel.catalog import Catalog, Unavailable  # noqa: PLC0415
    from keywheel.engine import Clock  # noqa: PLC0415
    from keywheel.wire.models import order  # noqa: PLC0415

    with _explained():
        config = gather().config
        with Catalog(
            config.upstream.base_url, salt=b"", ca_file=config.upstream.ca_file
        ) as catalog:
            try:
                entries = catalog.models()
            except Unavailable as error:
                _fail(f"{config.upstream.base_url}: {error}", UNREACHABLE)
    choice = config.models
    ordered = order(entries, preferred=choice.preferred, exclude=choice.exclude, now=Clock()())
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "id": e.id,
            "context": e.model.context,
            "can": sorted(e.model.can),
            "why_not": None,
        }
        for rank, e in enumerate(ordered, 1)
    ]
    if show_all:
        chosen = {e.id for e in ordered}
        rows += [
            {"rank": None, "id": e.id, "context": e.model.context, "can": sorted(e.model.can),
             "why_not": e.why_not or "excluded"}
            for e in entries if e.id not in chosen
        ]  # fmt: skip
    if as_json:
        _print_json({"models": rows})
        return
    table = Table("rank", "id", "context", "can", "why not")
    for row in rows:
        table.add_row(
            str(row["rank"] or ""),
            row["id"],
            str(row["context"]),
            ", ".join(row["can"]),
            row["why_not"] or "",
        )
    Console().print(table)


# --- manners ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained() -> Generator[None]:
    """Our own errors end the command with a sentence and the right code, never with a traceback."""
    try:
        yield
    except ConfigError as error:
        _fail(str(error), NO_CONFIG)
    except Error as error:
        _fail(str(error), FAILED)
    except ValueError as error:
        _fail(str(error), NO_CONFIG)
    except KeyboardInterrupt:
        sys.exit(130)


def _from_gateway(path: str) -> Any:
    import httpx2  # noqa: PLC0415

    gateway = gather().config.gateway
    address = f"http://{gateway.host}:{gateway.port}{path}"
    headers = {"authorization": f"Bearer {gateway.tokens[0]}"} if gateway.tokens else {}
    try:
        response = httpx2.get(address, headers=headers, trust_env=False, timeout=5.0)
    except httpx2.HTTPError:
        _fail(f"no gateway answers at {address}; start one with: keywheel serve", UNREACHABLE)
    if response.status_code != 200:
        _fail(f"{address} answered {response.status_code}", FAILED)
    return response.json()


def _fail(message: str, code: int) -> NoReturn:
    _say(message)
    sys.exit(code)


def _say(message: str) -> None:
    click.echo(f"keywheel: {message}", err=True)


def _print_json(value: dict[str, Any]) -> None:
    body = {"schema_version": SCHEMA_VERSION} | value
    click.echo(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"
