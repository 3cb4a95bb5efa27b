"""`keywheel serve` and `keywheel sim`."""

import contextlib
import sys
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import keywheel
from keywheel import config as settings
from keywheel.cli.manners import NO_KEYS, say
from keywheel.environment import Environment, gather
from keywheel.errors import ConfigError
from keywheel.keys import KeyEntry, label
from keywheel.secret import Secret

if TYPE_CHECKING:
    from keywheel.gateway.admintoken import AdminToken

DEMO = "calm"  # the scenario that is served when no key is set
NO_ADMIN = (
    "there is no admin token yet, so nobody can disable or reset keys and models: set KEYWHEEL_ADMIN_TOKEN, "
    "or start once in a terminal, which shows a new one"
)


@click.command()
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one.  [default: 8787]")
@click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    help="TOML file to use instead of the usual places.",
)
@click.option(
    "--sim", "scenario", is_flag=False, flag_value=DEMO, help="Serve from the built-in simulator."
)
@click.option("--demo", is_flag=True, help="Serve from the simulator if no key is set.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"], case_sensitive=False))
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
    from keywheel.gateway.guard import check_settings  # noqa: PLC0415

    flags = settings.from_flags(
        gateway__host=host, gateway__port=port, log__level=log_level, log__format=log_format
    )
    found = gather(flags, config_file=config_file)
    check_settings(found.config.gateway)
    if scenario is None and not found.keys:
        if not demo:
            raise ConfigError(NO_KEYS)
        scenario = DEMO
    if scenario is None:
        _serve(found, found.config, found.keys, None)
    with _simulated(found, scenario) as (config, keys):
        _serve(found, config, keys, scenario)


def _serve(
    found: Environment, config: settings.Config, keys: Sequence[KeyEntry], scenario: str | None
) -> NoReturn:
    """Everything that can be wrong is found before the port opens."""
    from keywheel.gateway import guard, logs, run, work  # noqa: PLC0415

    admin, hint = _admin(config.gateway, simulated=scenario is not None)
    job = work.Job(config, keys, admin.digest if admin else None, simulated=scenario is not None)
    with work.opened(job) as gateway, run.listen(config.gateway.host, config.gateway.port) as bound:
        _greet(config, len(keys), run.url(bound), scenario, keyless=not found.keys)
        secrets = [*(entry.secret for entry in keys), *config.gateway.tokens]
        if admin and admin.fresh:
            click.echo(f"Admin token, shown only now: {admin.fresh.reveal()}")
            secrets.append(admin.fresh)
        sys.stdout.flush()
        logs.set_up(config.log, secrets)
        for warning in (*found.warnings, guard.advice(config.gateway), hint):
            if warning:
                say(warning)
        run.serve(gateway, bound, config.gateway)


def _admin(
    gateway: settings.GatewaySettings, *, simulated: bool
) -> tuple["AdminToken | None", str | None]:
    """What opens the operator's routes, and what to say about it. A new token is for a person's eyes only."""
    from keywheel.gateway import admintoken  # noqa: PLC0415
    from keywheel.stores.opening import default_file  # noqa: PLC0415

    folder = default_file().parent
    seen = sys.stdout.isatty()
    if gateway.admin_token or (not simulated and (seen or admintoken.is_kept(folder))):
        return admintoken.admin_token(gateway, folder), None
    if seen:
        return admintoken.fresh(), None
    return None, None if simulated else NO_ADMIN


@contextlib.contextmanager
def _simulated(
    found: Environment, name: str
) -> Generator[tuple[settings.Config, tuple[KeyEntry, ...]]]:
    """A simulator in this process, and the settings that lead to it; its keys are in accounts of their own."""
    from keywheel import sim  # noqa: PLC0415
    from keywheel.gateway import run  # noqa: PLC0415

    scenario = _scenario(name)
    keys = tuple(
        KeyEntry(label(number), Secret(key), "simulator")
        for number, key in enumerate(sim.demo_keys(scenario), 1)
    )
    app = sim.create_app(sim.World(scenario))
    with run.listen("127.0.0.1", 0) as bound, run.in_thread(app, bound) as address:
        upstream = replace(found.config.upstream, base_url=f"{address}/api/v1")
        state = found.config.state
        if state.url is None:  # invented figures do not belong among the real ones
            state = replace(state, url=Secret("memory:"))
        yield replace(found.config, upstream=upstream, accounts={}, state=state), keys


def _scenario(name: str) -> Any:
    from keywheel import sim  # noqa: PLC0415

    try:
        return sim.scenario(name)
    except sim.ScenarioError as error:
        raise ConfigError(str(error)) from None


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


@click.command("sim")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8788, show_default=True)
@click.option(
    "--scenario",
    "name",
    default=DEMO,
    show_default=True,
    help="A named scenario, or a TOML file.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Times faster than life; inf: no delays.",
)
def simulate(host: str, port: int, name: str, seed: int, speed: float) -> None:
    """Run the OpenRouter simulator alone."""
    from keywheel import sim  # noqa: PLC0415
    from keywheel.gateway import run  # noqa: PLC0415

    scenario = _scenario(name)
    app = sim.create_app(sim.World(scenario, seed=seed), speed=speed)
    with run.listen(host, port) as bound:
        click.echo(f"OpenRouter, simulated (scenario {name}, seed {seed}): {run.url(bound)}/api/v1")
        for number, key in enumerate(sim.demo_keys(scenario), 1):
            click.echo(f"  key {number}: {key}")
        sys.stdout.flush()
        run.serve(app, bound, settings.GatewaySettings())
