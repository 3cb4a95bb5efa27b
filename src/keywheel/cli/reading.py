"""`keywheel stats` and `keys`, and how commands ask a running gateway."""

from ipaddress import ip_address
from typing import Any

import click

from keywheel.cli.manners import NO_KEYS, Unreachable, print_json, print_table
from keywheel.environment import gather
from keywheel.errors import ConfigError, Error

TOTALS = ("requests", "succeeded", "failed", "attempts", "fallbacks")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The whole of GET /admin/stats.")
def stats(as_json: bool) -> None:
    """Usage figures of the running gateway."""
    report = from_gateway("/admin/stats")
    if as_json:
        print_json(report)
        return
    click.echo("  ".join(f"{name} {report['totals'][name]}" for name in TOTALS))
    head = ("key", "account", "state", "attempts", "success", "p50 ms", "last error")
    print_table(head, map(_key_row, report["keys"]))


def _key_row(key: dict[str, Any]) -> tuple[str, ...]:
    share, p50 = key["success_rate"], key["latency_ms"]["p50"]
    return (
        key["name"],
        key["account"],
        key["reason"] or key["state"],
        str(key["attempts"]),
        "" if share is None else f"{share:.0%}",
        "" if p50 is None else f"{p50:.0f}",
        key["last_error"] or "",
    )


def from_gateway(path: str) -> dict[str, Any]:
    """What the running gateway answers. Raises `Unreachable`, or `Error` where something else answers."""
    import httpx2  # noqa: PLC0415 - most commands ask nobody

    gateway = gather().config.gateway
    address = f"http://{_reachable(gateway.host)}:{gateway.port}"
    headers = {"authorization": f"Bearer {gateway.tokens[0].reveal()}"} if gateway.tokens else {}
    try:
        response = httpx2.get(address + path, headers=headers, trust_env=False, timeout=5.0)
    except httpx2.HTTPError:
        raise Unreachable(
            f"no gateway answers at {address}; start one with: keywheel serve"
        ) from None
    if response.status_code == 401:
        raise Error(f"the gateway at {address} wants a token; set KEYWHEEL_TOKENS as it has them")
    try:
        report = response.json()
    except ValueError:
        report = None
    if response.status_code != 200 or not isinstance(report, dict) or "totals" not in report:
        raise Error(f"what answers at {address} is no keywheel gateway ({response.status_code})")
    return report  # pyright: ignore[reportUnknownVariableType]


def _reachable(host: str) -> str:
    """An address to call for an address to listen on: all of them are also here."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host or "127.0.0.1"
    if address.is_unspecified:
        return "127.0.0.1"
    return f"[{address}]" if address.version == 6 else str(address)


@click.group()
def keys() -> None:
    """Upstream keys."""


@keys.command("list")
@click.option("--json", "as_json", is_flag=True, help="One object.")
def list_keys(as_json: bool) -> None:
    """The keys that are set, by label; a key itself is never shown."""
    found = gather()
    if not found.keys:
        raise ConfigError(NO_KEYS)
    configured = {label: name for name, a in found.config.accounts.items() for label in a.keys}
    rows = [
        {"name": key.label, "account": configured.get(key.label), "origin": key.origin}
        for key in found.keys
    ]
    if as_json:
        print_json({"keys": rows})
        return
    told = "as GET /key says"
    print_table(
        ("key", "account", "from"),
        ((row["name"] or "", row["account"] or told, row["origin"] or "") for row in rows),
    )
