"""Where this installation sends what others ask it to send: addresses of the public internet over TLS, and what the operator allows.

Whoever may name an address could otherwise make us ask our own network: databases, the cloud's metadata service, ourselves. A name is
looked up once, each address that it stands for is checked, and the connection goes to the very address that was checked
(shared.runtime.outbound), so that a name that stands for something else a moment later (DNS rebinding) changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

LONGEST_URL = 2000
PORTS = {"https": 443, "http": 80}
LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
NAME = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*\Z")
PRINTABLE = re.compile(r"[!-~]+\Z")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# IANA's special-purpose address registries: https://www.iana.org/assignments/iana-ipv4-special-registry and -ipv6-. Written out, because
# what the standard library calls global differs between its releases.
PRIVATE = [
    ip_network(text) for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7")
]
SPECIAL = [
    ip_network(text)
    for text in (
        "0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
        "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16",  # public by its number, and yet Azure's inside
        "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
    )
]  # fmt: skip
GLOBAL_IPV6 = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")


class BadTarget(ValueError):
    """An address that nothing is sent to; the text says why."""


@dataclass(frozen=True)
class Allowance:
    """What the operator allows beyond the public internet: networks, and hosts by name, which may stand for private addresses."""

    networks: tuple[Network, ...] = ()
    names: frozenset[str] = frozenset()

    def holds(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


@dataclass(frozen=True)
class Target:
    """A URL taken apart. `host`: a name in lower case, or an address without brackets; `path` with its query."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """As the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def read_allowance(text: str) -> Allowance:
    """Networks (10.1.0.0/16), addresses and names, with commas or blanks between. Raises ValueError."""
    networks: list[Network] = []
    names = set()
    for one in text.replace(",", " ").lower().split():
        try:
            networks.append(ip_network(one))
            continue
        except ValueError as error:
            if not _is_name(one):
                raise ValueError(f"{one!r} is no network such as 10.1.0.0/16, no address and no host's name") from error
        names.add(one)
    return Allowance(tuple(networks), frozenset(names))


def read_url(text: str, allowance: Allowance) -> Target:
    """What a URL names, as far as that can be judged before its name is looked up. Raises BadTarget."""
    if len(text) > LONGEST_URL:
        raise BadTarget(f"a URL has at most {LONGEST_URL} characters")
    if not PRINTABLE.match(text) or "\\" in text:
        raise BadTarget("a URL is written in plain ASCII: other characters as %XX, other letters of a host's name in its xn-- form")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadTarget("this is no URL such as https://crm.example.com/answerline") from error
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    if scheme not in PORTS or not host:
        raise BadTarget("a URL begins with https:// and the name of a host")
    if "@" in parts.netloc:
        raise BadTarget("a URL holds no user or password here: the signature says who sends")
    if "#" in text:
        raise BadTarget("a URL has no fragment (#…) here")
    if port == 0:
        raise BadTarget("a port is a number from 1 to 65535")
    address = _literal(host, in_brackets=parts.netloc.startswith("["))
    if address is None and not _is_name(host):
        raise BadTarget(f"{host!r} is neither a host's name nor an address in its usual form")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    target = Target(scheme, host, port or PORTS[scheme], path)
    if address is not None:
        check_address(target, address, allowance)
    elif scheme == "http" and host not in allowance.names and not allowance.networks:
        raise BadTarget(_needs_tls())
    elif (host == "localhost" or host.endswith(".localhost")) and host not in allowance.names and not allowance.networks:
        raise BadTarget(_refusal(host))
    return target


def check_address(target: Target, address: Address, allowance: Allowance) -> None:
    """Whether a connection for this target may go to that address. Raises BadTarget."""
    if allowance.holds(address):
        return
    inner = _embedded(address)
    if inner is not None:
        check_address(target, inner, allowance)
        return
    named = target.host in allowance.names
    if is_special(address) and not (named and _is_private(address)):
        raise BadTarget(_refusal(str(address)))
    if target.scheme == "http" and not named:
        raise BadTarget(_needs_tls())


def check_all(target: Target, addresses: Iterable[Address], allowance: Allowance) -> None:
    """One refused address refuses the name: whoever mixes inner addresses among public ones means no good. Raises BadTarget."""
    for address in addresses:
        check_address(target, address, allowance)


def is_special(address: Address) -> bool:
    """Whether it is anything but an address of the public internet for one machine."""
    if inner := _embedded(address):
        return is_special(inner)
    if isinstance(address, IPv6Address) and (address not in GLOBAL_IPV6 or address.scope_id):
        return True
    return any(address in network for network in (*PRIVATE, *SPECIAL))


def _is_private(address: Address) -> bool:
    return any(address in network for network in PRIVATE)


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a connection to this one ends at: IPv4-mapped (RFC 4291) and NAT64 (RFC 6052)."""
    if isinstance(address, IPv4Address):
        return None
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped


def _literal(host: str, in_brackets: bool) -> Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return address if isinstance(address, IPv6Address) == in_brackets and "%" not in host else None


def _is_name(text: str) -> bool:
    """A host's name. One whose last part is a number would be read as an address by some (127.1, 0x7f.1)."""
    return bool(NAME.match(text)) and not re.match(r"[0-9]+\Z|0x[0-9a-f]*\Z", text.rpartition(".")[2])


def _refusal(what: str) -> str:
    return f"{what} is not on the public internet: an operator can allow it in ANSWERLINE_WEBHOOK_ALLOW"


def _needs_tls() -> str:
    return "use https://; without TLS only what ANSWERLINE_WEBHOOK_ALLOW names is spoken to"
