"""`keywheel keys`: which are set, whether they are valid, and the operator's hand."""

import time
from typing import Any

import click

from keywheel.cli.manners import NO_KEYS, print_json, print_table, say
from keywheel.cli.phrases import clock
from keywheel.cli.reading import line
from keywheel.environment import gather
from keywheel.errors import ConfigError


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


# --- the operator's hand ---------------------------------------------------------------------------

HANDS = {
    "enable": "Open a key of the running gateway: forget what closed it.",
    "disable": "Close a key of the running gateway until somebody enables it.",
    "reset": "Forget a key's blocks, error window and streak in the running gateway.",
}


def _hand(action: str, help: str) -> click.Command:
    @click.argument("name")
    @click.option("--json", "as_json", is_flag=True, help="The key as it is now, as one object.")
    def act(name: str, as_json: bool) -> None:
        told = line().post("admin", "keys", name, action)
        if as_json:
            print_json(told)
            return
        say(_after(told["key"]))

    return click.command(action, help=f"{help} It wants the admin token (KEYWHEEL_ADMIN_TOKEN).")(
        act
    )


def _after(key: dict[str, Any]) -> str:
    if key["state"] == "open":
        return f"key {key['name']} is open"
    until = f" until {clock(key['until'], time.time())}" if key["until"] else ""
    return f"key {key['name']} is {key['state']} ({key['reason']}){until}"


for action, sentence in HANDS.items():
    keys.add_command(_hand(action, sentence))
