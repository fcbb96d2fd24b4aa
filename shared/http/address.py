"""Who is at the other end: the client's address, which only a proxy that we trust may tell us."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from shared.config import Network

MOST_HOPS = 20
SITE_BITS = 64
"""Of an IPv6 address: whoever has one has all that begin alike."""


class Proxies:
    """Reads X-Forwarded-For and X-Forwarded-Proto of requests that come from the `trusted`; anybody else may write there what they like."""

    def __init__(self, trusted: Sequence[Network] = ()) -> None:
        self._trusted = tuple(trusted)
        self.trusts = lru_cache(4096)(self._trusts)

    def client_of(self, environ: Mapping[str, Any]) -> str:
        """The address that a request is counted for: the last one on its way that is no proxy of ours. Of IPv6, the first half."""
        peer: str = environ.get("REMOTE_ADDR", "")
        if self._trusted and (told := environ.get("HTTP_X_FORWARDED_FOR")) and self.trusts(peer):
            for one in told.rsplit(",", MOST_HOPS)[: -MOST_HOPS - 1 : -1]:
                hop = _without_port(one.strip())
                if not _is_address(hop):
                    break
                peer = hop
                if not self.trusts(hop):
                    break
        return _site(peer) if ":" in peer else peer

    def is_secure(self, environ: Mapping[str, Any]) -> bool:
        """Whether the client came by TLS, as far as somebody says so whom we trust."""
        if environ.get("wsgi.url_scheme") == "https":
            return True
        if not self._trusted or not (told := environ.get("HTTP_X_FORWARDED_PROTO")):
            return False
        return told.partition(",")[0].strip().lower() == "https" and self.trusts(environ.get("REMOTE_ADDR", ""))

    def _trusts(self, text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._trusted)


def _without_port(text: str) -> str:
    """`192.0.2.1:443` and `[2001:db8::1]:443` too are addresses to some proxies."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@lru_cache(4096)
def _site(text: str) -> str:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return text
    if not isinstance(address, IPv6Address):
        return text
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> (128 - SITE_BITS) << (128 - SITE_BITS)))
