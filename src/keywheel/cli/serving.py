"""`keywheel serve` and `keywheel sim`."""

import sys
from pathlib import Path

import click

from keywheel import config as settings
from keywheel.cli.manners import NO_KEYS
from keywheel.errors import ConfigError

DEMO = "calm"  # the scenario that is served when no key is set


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
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that share the port and the state.",
)
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
    workers: int,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run the gateway."""
    from keywheel.cli.launch import Launch, start  # noqa: PLC0415 - loads the gateway

    flags = {
        "gateway__host": host,
        "gateway__port": port,
        "log__level": log_level,
        "log__format": log_format,
    }
    launch = Launch(flags, config_file, scenario, count=workers)
    found = launch.gather()
    if scenario is None and not found.keys:
        if not demo:
            raise ConfigError(NO_KEYS)
        launch = launch.simulating(DEMO)
    start(launch, found)


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
    from keywheel.cli.launch import scenario_of  # noqa: PLC0415
    from keywheel.gateway import run  # noqa: PLC0415

    scenario = scenario_of(name)
    app = sim.create_app(sim.World(scenario, seed=seed), speed=speed)
    with run.listen(host, port) as bound:
        click.echo(f"OpenRouter, simulated (scenario {name}, seed {seed}): {run.url(bound)}/api/v1")
        for number, key in enumerate(sim.demo_keys(scenario), 1):
            click.echo(f"  key {number}: {key}")
        sys.stdout.flush()
        run.serve(app, bound, settings.GatewaySettings())
