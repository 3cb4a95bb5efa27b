"""What the tests of stores share: short ways to make the values that go into a store."""

from keywheel.stores import Caller, Claim, Parcel, Store, Tally

TODAY = 20_000  # a UTC date as days since 1970
NOW = TODAY * 86_400.0 + 43_200.0  # its noon
CAP = 19


def caller(
    slot: str = "a/0", start: int = 1, *, birth: str = "", heard: float = 0.0, slots: int = 1
) -> Caller:
    return Caller(slot, start, heard, birth, slots)


def tally(
    account: str = "team", date: int = TODAY, *, mine: int = 0, others: int = 0, limit: int = 50
) -> Tally:
    return Tally(account, date, mine, others, limit)


def claim(who: Caller, lease: object, *tallies: Tally, cap: int = CAP) -> Claim:
    return Claim(who, f"{who.writer}/{lease}", tallies or (tally(),), cap)


def joined(store: Store, slot: str = "a/0", start: int = 1, *, slots: int = 1) -> Caller:
    """A worker that has exchanged once, so that it knows the store's time and birth."""
    first = caller(slot, start, slots=slots)
    receipt = store.push(Parcel(first))
    return first._replace(heard=receipt.now, birth=receipt.birth)


def taken(store: Store, who: Caller, count: int, *tallies: Tally, cap: int = CAP) -> list[str]:
    """The answers to so many claims with leases of their own."""
    told = tallies or (tally(),)
    return [
        store.take(claim(who, f"{told[0].account}-{n}", *told, cap=cap)).answer.value
        for n in range(count)
    ]
