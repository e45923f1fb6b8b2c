"""Where webhooks may be sent: what customers name as an address must lead to nothing of our own network.

The address is judged twice: as it is written, when an endpoint is made and before each delivery (`parse_target`); and
by what its name stands for at that moment (`check_address`), to which the connection is then made, and to nothing else.
What the operator allows (`AllowList`) may be within our own network, unencrypted and at any port; the addresses at
which clouds hand out credentials are refused all the same.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, NamedTuple

from tallystick.core.errors import BadInput

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

URL_CHARS_MAX: Final = 2048
PORTS: Final = frozenset({443, 8443})
"""Those that are reached without the operator's word."""

_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(#.*)?", re.DOTALL)
_REST: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?%]*")
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_SPECIAL_NAMES: Final = (
    "localhost", "local", "internal", "localdomain", "lan", "home", "corp", "intranet", "private", "svc", "home.arpa",
    "in-addr.arpa", "ip6.arpa", "onion", "invalid", "metadata.goog",
)  # fmt: skip
"""Names, and all that ends so, that are not of the public internet."""
_METADATA_NAMES: Final = frozenset({"metadata", "metadata.google.internal", "metadata.goog", "instance-data"})

_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254", "169.254.170.2", "169.254.170.23", "168.63.129.16", "100.100.100.200", "192.0.0.192",
            "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fe80::a9fe:a9fe",
        ),
    )
)  # fmt: skip
_KINDS_V4: Final = tuple(
    (IPv4Network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", "unspecified"), ("10.0.0.0/8", "private"), ("100.64.0.0/10", "of a carrier"),
        ("127.0.0.0/8", "loopback"), ("169.254.0.0/16", "link-local"), ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"), ("192.0.2.0/24", "for examples"), ("192.31.196.0/24", "reserved"),
        ("192.52.193.0/24", "reserved"), ("192.88.99.0/24", "6to4"), ("192.168.0.0/16", "private"),
        ("192.175.48.0/24", "reserved"), ("198.18.0.0/15", "for benchmarks"), ("198.51.100.0/24", "for examples"),
        ("203.0.113.0/24", "for examples"), ("224.0.0.0/4", "multicast"), ("240.0.0.0/4", "reserved"),
    )
)  # fmt: skip
_GLOBAL_V6: Final = IPv6Network("2000::/3")
_KINDS_V6: Final = tuple(
    (IPv6Network(network), kind)
    for network, kind in (
        ("::/128", "unspecified"), ("::1/128", "loopback"), ("::/96", "an IPv4 address in another form"),
        ("::ffff:0:0/96", "an IPv4 address in another form"), ("::ffff:0:0:0/96", "an IPv4 address in another form"),
        ("64:ff9b:1::/48", "an IPv4 address in another form"), ("100::/64", "for discarding"),
        ("2001::/32", "Teredo"), ("2001:2::/48", "for benchmarks"), ("2001::/23", "reserved"),
        ("2001:db8::/32", "for examples"), ("2002::/16", "6to4"), ("3ffe::/16", "reserved"),
        ("3fff::/20", "for examples"), ("5f00::/16", "reserved"), ("fc00::/7", "private"),
        ("fe80::/10", "link-local"), ("fec0::/10", "private"), ("ff00::/8", "multicast"),
    )
)  # fmt: skip
_NAT64: Final = IPv6Network("64:ff9b::/96")


class AllowList(NamedTuple):
    """What the operator allows besides the public internet: hosts by name, and networks."""

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def names(self, host: str) -> bool:
        """Whether the host is allowed by its name, or is an address of an allowed network."""
        if host in self.hosts:
            return True
        literal = _literal(host)
        return literal is not None and self.holds(literal)

    def holds(self, address: Address) -> bool:
        """Whether the address is in an allowed network."""
        return any(address in network for network in self.networks)


class Target(NamedTuple):
    """Where a delivery goes.

    Attributes:
        host: the name or the address, in lower case, without brackets.
        path: with the query; `/` at least.
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """The host as a request names it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def parse_allow_list(text: str) -> AllowList:
    """What is allowed, from names and networks with commas between them.

    Raises:
        BadInput: `invalid_setting`.
    """
    hosts, networks = set(), []
    for part in (part.strip().lower() for part in text.split(",")):
        if not part:
            continue
        try:
            networks.append(ip_network(part.strip("[]")))
        except ValueError:
            host = part.removesuffix(".")
            if not _HOST.fullmatch(host) or _NUMBER.fullmatch(host.rpartition(".")[2]):
                raise BadInput(
                    "invalid_setting",
                    f"{part[:80]!r} is neither a host's name nor a network",
                    next_step="write such as hooks.example.internal,10.1.0.0/16",
                    where="TALLY_WEBHOOK_ALLOW",
                ) from None
            hosts.add(host)
    return AllowList(frozenset(hosts), tuple(networks))


def parse_target(url: str, allow: AllowList) -> Target:
    """Where a URL leads, as far as that can be told by looking at it.

    Raises:
        BadInput: `invalid_webhook_url`, `webhook_address_refused`.
    """
    if len(url) > URL_CHARS_MAX:
        raise _invalid(f"it is longer than {URL_CHARS_MAX} characters")
    found = _URL.fullmatch(url)
    if found is None:
        raise _invalid("it is no URL")
    scheme, authority, rest, fragment = found[1].lower(), found[2], found[3], found[4]
    if scheme not in ("https", "http"):
        raise _invalid("it does not begin with https://")
    if "@" in authority:
        raise _invalid("it holds a user or a password")
    if fragment is not None:
        raise _invalid("it holds a fragment, which is never sent")
    if not _REST.fullmatch(rest):
        raise _invalid("its path or query holds characters that must be percent-encoded")
    host, port = _host_and_port(authority, 443 if scheme == "https" else 80)
    target = Target(scheme, host, port, rest if rest.startswith("/") else f"/{rest}")
    _check_host(target, allow)
    return target


def check_address(address: Address, target: Target, allow: AllowList) -> None:
    """Refuse to connect to what the host's name stands for, unless that is of the public internet, or allowed.

    Raises:
        BadInput: `webhook_address_refused`; it does not say which address that is.
    """
    inner = _embedded(address)
    if address in _METADATA or (inner is not None and inner in _METADATA):
        raise _refused(f"{target.host} is where a cloud hands out credentials")
    if target.host in allow.hosts or allow.holds(address):
        return
    kind = _kind(address)
    if kind is not None:
        raise _refused(f"the address of {target.host} is not of the public internet: it is {kind}")


def _host_and_port(authority: str, default: int) -> tuple[str, int]:
    if authority.startswith("["):
        inside, closed, after = authority[1:].partition("]")
        host, colon, port = inside.lower(), after[:1], after[1:]
        if not closed or colon not in ("", ":"):
            raise _invalid("its host is no address")
        try:
            host = str(IPv6Address(host)) if "%" not in host else ""
        except ValueError:
            host = ""
        if not host:
            raise _invalid("its host is no address")
    else:
        host, colon, port = authority.partition(":")
        host = host.lower().removesuffix(".")
        if not _HOST.fullmatch(host):
            raise _invalid("its host is no name of the internet; write others in their ASCII form, xn--…")
        if _NUMBER.fullmatch(host.rpartition(".")[2]):  # as browsers and resolvers see it: some form of an address
            try:
                host = str(IPv4Address(host))
            except ValueError:
                raise _invalid("its host is an address that is not written as four decimal numbers") from None
    if not colon:
        return host, default
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise _invalid("its port is no number from 1 to 65535")
    return host, int(port)


def _check_host(target: Target, allow: AllowList) -> None:
    host = target.host
    if host in _METADATA_NAMES:
        raise _refused(f"{host} is where a cloud hands out credentials")
    literal = _literal(host)
    if literal is not None:
        check_address(literal, target, allow)
    if allow.names(host):
        return
    if target.scheme != "https":
        raise _refused("events are sent over https alone")
    if target.port not in PORTS:
        raise _refused(f"port {target.port} is none of {', '.join(map(str, sorted(PORTS)))}")
    if literal is None and (
        "." not in host or any(host == name or host.endswith(f".{name}") for name in _SPECIAL_NAMES)
    ):
        raise _refused(f"{host} is no name of the public internet")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _kind(address: Address) -> str | None:
    """What the address is, where it is not one of the public internet."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:  # how the IPv4 internet is reached from where there is only IPv6
            return _kind(IPv4Address(int(address) & 0xFFFF_FFFF))
        if (int(address) >> 32) & 0xFDFF_FFFF == 0x5EFE:
            return "an IPv4 address in another form"
        found = next((kind for network, kind in _KINDS_V6 if address in network), None)
        return found or (None if address in _GLOBAL_V6 else "reserved")
    return next((kind for network, kind in _KINDS_V4 if address in network), None)


def _embedded(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    return IPv4Address(int(address) & 0xFFFF_FFFF) if address in _NAT64 or int(address) >> 48 == 0 else None


def _invalid(why: str) -> BadInput:
    return BadInput(
        "invalid_webhook_url",
        f"events cannot be sent to that URL: {why}",
        next_step="give a URL such as https://hooks.example.com/tally",
        where="url",
    )


def _refused(why: str) -> BadInput:
    return BadInput(
        "webhook_address_refused",
        f"events are not sent there: {why}",
        next_step="give an https address of the public internet; the operator may allow others by TALLY_WEBHOOK_ALLOW",
        where="url",
    )
