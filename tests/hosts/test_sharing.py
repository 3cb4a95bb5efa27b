"""Several hosts on one Redis keep one limit: together, when one is cut off, and when the store is in trouble.

What truly came is counted by the upstream. A host that is cut off waits 70 s before it goes on by its share; that long
form runs with KEYWHEEL_HOSTS=long.
"""

import os
import time
from pathlib import Path

import pytest

from keywheel import sim
from tests.hosts.rig import Host, Load, Upstream, account, fullest, hosts, upstream
from tests.serving import eventually

pytestmark = pytest.mark.timeout(400)
IS_LONG = os.environ.get("KEYWHEEL_HOSTS") == "long"
WORKERS = (4, 1, 1)
PER_MINUTE, CAP = 20, 19
AGREE = 5.0  # seconds after which all agree (routing rule A.11.3)
NOTICED = 2.0  # seconds: the last reply, one more in which it takes, and what is under way
SHARE = 70.0  # seconds after the last reply until a share begins


def agreed(crowd: list[Host], times: int = 3) -> set[int]:
    """What all say was sent today; workers of one host are asked several times."""
    return {host.used() for host in crowd for _ in range(times)}


def test_hosts_that_offer_three_times_the_limit_stay_below_it(tmp_path: Path) -> None:
    """One account is short of minutes, the other of its day."""
    per_day = 60
    accounts = (
        sim.Account(minute_limit=PER_MINUTE, day_limit=1_000),
        sim.Account(minute_limit=1_000, day_limit=per_day),
    )
    limits = account(0, PER_MINUTE, 1_000) | account(1, 1_000, per_day)
    with upstream(*accounts) as up, hosts(tmp_path, up, WORKERS, limits) as crowd:
        with Load(crowd):
            offered = 3 * (CAP + per_day)
            assert eventually(lambda: sum(h.statuses.total() for h in crowd) > offered, 60.0)
        up.count()
        first, second = up.sends("account-1"), up.sends("account-2")
        assert CAP // 2 < fullest(first) <= CAP
        assert per_day // 2 < len(second) <= per_day
        assert all(set(host.statuses) <= {200, 429, 503} for host in crowd)
        assert all(host.served_at for host in crowd)
        took = check_agreement(up, crowd)
        print(
            f"offered {offered}: {len(first)} and {len(second)} sends, counted {agreed(crowd).pop()}, "
            f"{fullest(first)} of {CAP} in the fullest minute; agreed after {took:.1f} s"
        )


def cut_for(crowd: list[Host], seconds: float) -> float:
    """Cut the last host off for so long, while all ask; since when."""
    line = crowd[-1].line
    assert line is not None
    line.cut()
    begun = time.time()
    with Load(crowd, pause=0.25):
        time.sleep(seconds)
    line.heal()
    return begun


def check_agreement(up: Upstream, crowd: list[Host]) -> float:
    """All say the same soon, and no less than was sent; how many seconds it took."""
    healed, true = time.monotonic(), up.count()
    assert eventually(lambda: len(found := agreed(crowd, 2)) == 1 and min(found) >= true, AGREE)
    return time.monotonic() - healed


# seconds of the cut, limits a minute and a day
SHORT = (12.0, 100, 1_000)
LONG = (110.0, 20, 150)


@pytest.mark.parametrize("case", [LONG if IS_LONG else SHORT])
def test_a_host_cut_off_goes_by_its_share_and_the_others_leave_room(
    tmp_path: Path, case: tuple[float, int, int]
) -> None:
    seconds, per_minute, per_day = case
    cap, share = per_minute * 95 // 100, per_minute * 95 // 100 // (sum(WORKERS) + 1)
    one, limits = sim.Account(minute_limit=per_minute, day_limit=per_day), account(0, *case[1:])
    with upstream(one) as up, hosts(tmp_path, up, WORKERS, limits) as crowd:
        alone = crowd[-1]
        for host in crowd:
            with Load([host], each=1, pause=1.0):
                assert eventually(lambda h=host: len(h.served_at) > 0)
        begun = cut_for(crowd, seconds)
        took = check_agreement(up, crowd)
        assert eventually(lambda: "state-silent" not in alone.troubles(), 2 * AGREE)

    sends = up.sends()
    mine = [round(at - begun, 1) for at in alone.served_at if at > begun + NOTICED]
    others = [at for host in crowd[:-1] for at in host.served_at if at > begun + NOTICED]
    print(
        f"cut for {seconds:.0f} s: {len(sends)} sends, {fullest(sends)} of {cap} in the fullest minute; the others "
        f"{len(others)}, the one cut off {mine}, its share {share} a minute; agreed after {took:.1f} s"
    )
    assert fullest(sends) <= cap
    assert len(sends) <= per_day
    assert others
    assert [after for after in mine if after < SHARE - 1.0] == []
    assert fullest(mine) <= share
    assert bool(mine) is IS_LONG
