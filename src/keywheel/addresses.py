"""Which addresses a host may lead to (requirement C13). Pure: whoever connects looks the names up and asks here.

An address is looked at after its name was resolved, and exactly that address is connected to: a name that was good
yesterday may lead elsewhere today.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

NAT64 = ip_network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
NEVER = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8",
            "127.0.0.0/8",  # loopback is allowed only to a host that is named as loopback
            "169.254.0.0/16",  # link-local, and the metadata service of most clouds
            "224.0.0.0/4",
            "240.0.0.0/4",
            "100.100.100.200/32",  # metadata: Alibaba
            "168.63.129.16/32",  # metadata: Azure
            "192.0.0.192/32",  # metadata: Oracle
            "::/96",  # unspecified, loopback, IPv4-compatible
            "fe80::/10",
            "ff00::/8",
            "fd00:ec2::254/128",  # metadata: AWS
            "fd20:ce::254/128",  # metadata: Google
        ),
    )
)
REMEDY = "; upstream.allow_private = true permits an upstream in a private network"


@dataclass(slots=True)
class Reach:
    """The addresses that the connections to one upstream may lead to.

    `loopback`: it is named as loopback. `private`: the settings allow private networks. `proxied`: connections lead
    to the operator's own proxy. `last_good`: the address that worked last goes first.
    """

    loopback: bool
    private: bool
    proxied: bool = False
    last_good: str = ""

    def choose(self, host: str, found: Iterable[str]) -> list[str]:
        """Those of a host's addresses that may be connected to, in order. Raises `PermissionError` without any."""
        found = list(dict.fromkeys(found))
        allowed = [address for address in found if self._allows(address, self.private)]
        if not allowed:
            remedy = REMEDY if any(self._allows(address, True) for address in found) else ""
            raise PermissionError(
                f"{host} leads to {', '.join(found)}, which is not allowed{remedy}"
            )
        return sorted(allowed, key=lambda address: address != self.last_good)

    def _allows(self, address: str, private: bool) -> bool:
        if not self.proxied:
            return is_permitted(address, loopback=self.loopback, private=private)
        # The operator's own proxy may well be local or private; metadata services never.
        return any(is_permitted(address, loopback=here, private=True) for here in (True, False))


def is_permitted(address: str, *, loopback: bool, private: bool) -> bool:
    """Whether a resolved IP address may be connected to.

    `loopback`: the host was named as loopback, and then nothing else will do. `private`: the
    settings allow addresses that are not reachable from everywhere.
    """
    ip = _unwrap(ip_address(address))
    if loopback:
        return ip.is_loopback
    if any(ip in network for network in NEVER):
        return False
    return private or ip.is_global


def is_loopback_name(host: str) -> bool:
    """Whether a host as written can be nothing but this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _unwrap(ip: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(ip, IPv4Address):
        return ip
    if ip in NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip
