"""A worker that takes as fast as it can and says so after each take: to be killed by the tests.

Arguments: path, group or "-", durability, account's day limit, start of the writer.
"""

import os
import sys
from pathlib import Path

from keywheel.errors import StoreError
from keywheel.stores.contract import Caller, Claim, Parcel, Tally
from keywheel.stores.sqlite import SqliteStore

DATE = 20_000
NOW = DATE * 86_400.0 + 43_200.0


def main() -> None:
    path, group, durability, limit, start = sys.argv[1:]
    store = SqliteStore(
        Path(path),
        group=None if group == "-" else group,
        durability="power" if durability == "power" else "process",
        clock=lambda: NOW,
    )
    who = Caller("a/0", int(start))
    who = who._replace(birth=store.push(Parcel(who)).birth)
    tallies = (Tally("team", DATE, 0, 0, int(limit)),)
    for number in range(10**6):
        taken = store.take(Claim(who, f"{who.writer}/{number}", tallies, 10**9))
        if not taken.permitted:
            break
        os.write(1, b".")  # the byte that leaves
    store.close()


if __name__ == "__main__":
    try:
        main()
    except StoreError as error:
        sys.exit(f"{type(error).__name__}: {error}")
