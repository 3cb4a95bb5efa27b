"""Which addresses a host may lead to: the table of requirement C13."""

import pytest

from keywheel.addresses import Reach, is_loopback_name, is_permitted

PUBLIC, PRIVATE, NEVER = "public", "private", "never"


@pytest.mark.parametrize(
    ("address", "reach"),
    [
        ("104.18.2.115", PUBLIC),
        ("2606:4700::6812:273", PUBLIC),
        ("::ffff:104.18.2.115", PUBLIC),
        ("64:ff9b::6812:273", PUBLIC),
        ("10.1.2.3", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("fd12:3456::1", PRIVATE),
        ("::ffff:10.0.0.1", PRIVATE),
        ("2002:a00:1::", PRIVATE),
        ("169.254.169.254", NEVER),
        ("169.254.0.1", NEVER),
        ("::ffff:169.254.169.254", NEVER),
        ("64:ff9b::a9fe:a9fe", NEVER),
        ("2002:a9fe:a9fe::", NEVER),
        ("fe80::1", NEVER),
        ("fe80::1%eth0", NEVER),
        ("100.100.100.200", NEVER),
        ("168.63.129.16", NEVER),
        ("fd00:ec2::254", NEVER),
        ("0.0.0.0", NEVER),
        ("0.1.2.3", NEVER),
        ("::", NEVER),
        ("::a9fe:a9fe", NEVER),
        ("127.0.0.1", NEVER),
        ("::1", NEVER),
        ("::ffff:127.0.0.1", NEVER),
        ("224.0.0.1", NEVER),
        ("ff02::1", NEVER),
        ("240.0.0.1", NEVER),
        ("255.255.255.255", NEVER),
    ],
)
def test_address_table(address: str, reach: str) -> None:
    assert is_permitted(address, loopback=False, private=False) is (reach == PUBLIC)
    assert is_permitted(address, loopback=False, private=True) is (reach in {PUBLIC, PRIVATE})


@pytest.mark.parametrize("private", [True, False])
def test_host_named_as_loopback_leads_to_loopback_only(private: bool) -> None:
    for address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"):
        assert is_permitted(address, loopback=True, private=private)
    for address in ("10.0.0.1", "104.18.2.115", "169.254.169.254", "0.0.0.0"):
        assert not is_permitted(address, loopback=True, private=private)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost.evil.example", False),
        ("2130706433", False),
        ("0x7f000001", False),
        ("0.0.0.0", False),
    ],
)
def test_only_what_can_be_nothing_else_is_named_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback_name(host) is loopback


def test_forbidden_addresses_of_a_host_are_left_out_and_the_last_good_one_comes_first() -> None:
    reach = Reach(loopback=False, private=False)
    found = ["10.0.0.1", "104.18.2.115", "104.18.2.115", "169.254.169.254", "104.18.3.115"]
    assert reach.choose("h.example", found) == ["104.18.2.115", "104.18.3.115"]
    reach.last_good = "104.18.3.115"
    assert reach.choose("h.example", found) == ["104.18.3.115", "104.18.2.115"]


def test_the_remedy_is_named_only_where_it_helps() -> None:
    for private in (False, True):
        with pytest.raises(PermissionError, match=r"leads to 169\.254\.169\.254.*not allowed$"):
            Reach(False, private).choose("h.example", ["169.254.169.254"])
    with pytest.raises(PermissionError, match=r"10\.0\.0\.1.*upstream\.allow_private"):
        Reach(False, False).choose("h.example", ["169.254.169.254", "10.0.0.1"])
    assert Reach(False, True).choose("h.example", ["169.254.169.254", "10.0.0.1"]) == ["10.0.0.1"]


def test_the_operators_proxy_may_be_local_or_private_but_no_metadata_service() -> None:
    reach = Reach(loopback=False, private=False, proxied=True)
    found = ["169.254.169.254", "127.0.0.1", "10.0.0.1", "104.18.2.115", "fd00:ec2::254"]
    assert reach.choose("proxy.example", found) == ["127.0.0.1", "10.0.0.1", "104.18.2.115"]
