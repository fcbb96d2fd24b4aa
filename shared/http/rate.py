"""How often somebody may ask: token buckets, in the memory of this process and for it alone.

A bucket is one number, the moment at which it will be full again; a request moves it on by a token's worth and is refused where it would
lie further ahead than a whole bucket (the virtual scheduling algorithm of ITU-T I.371, known as GCRA).
"""

import math
from collections.abc import Hashable, Mapping
from typing import NamedTuple

from shared import clock
from shared.config import Rate
from shared.errors import TooManyRequests
from shared.http.address import Proxies
from shared.http.endpoint import Principal

MOST_KEPT = 65_536
"""Buckets of a generation; two are kept, some 25 MB at the very most."""
WRONG = "too many wrong keys or passwords came from this address"
ROUNDING = 1e-6
"""Seconds that a sum of many steps may be off."""


class Buckets:
    """Buckets by whose they are. When a generation is full, those of the one before it that nobody has asked for since are forgotten: they
    are full again, or were the least busy of many thousands."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.most = most
        self._full_at: dict[Hashable, float] = {}
        self._before: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_at) + len(self._before)

    def take(self, whose: Hashable, rate: Rate, now: float) -> float:
        """Take a token. 0, or where there is none the seconds until there is one."""
        full_at = self._full_at.get(whose)
        if full_at is None:
            full_at = self._before.get(whose, now)
            if len(self._full_at) >= self.most:
                self._before, self._full_at = self._full_at, {}
        step = 1.0 / rate.per_second
        if full_at < now:
            full_at = now
        late = full_at - now + step - rate.burst * step
        self._full_at[whose] = full_at if late > ROUNDING else full_at + step
        return late if late > ROUNDING else 0.0

    def wait(self, whose: Hashable, rate: Rate, now: float) -> float:
        """Seconds until there is a token; none is taken."""
        full_at = self._full_at.get(whose) or self._before.get(whose, now)
        step = 1.0 / rate.per_second
        late = max(full_at, now) - now + step - rate.burst * step
        return late if late > ROUNDING else 0.0


class Limit(NamedTuple):
    """`apart`: counted apart from what the same one asks elsewhere."""

    name: str
    rate: Rate
    apart: bool = False


class Limits:
    """Who may ask how often where; `rates` as in shared.config.RATES. Without an entry there is no limit."""

    def __init__(self, rates: Mapping[str, Rate], proxies: Proxies) -> None:
        self.proxies = proxies
        self._rates = {name: rate for name, rate in rates.items() if rate.per_second < math.inf}
        self._off = {name for name, rate in rates.items() if rate.per_second == math.inf}
        self._limits: dict[tuple[str, frozenset[str] | None], Limit | None] = {}
        self._keys, self._addresses, self._failures = Buckets(), Buckets(), Buckets()

    def spend(self, tag: str, principal: Principal | None, address: str) -> None:
        """A request at a door of that tag, by somebody (None: without a key). Raises TooManyRequests."""
        kind = (tag, principal.roles if principal else None)
        try:
            limit = self._limits[kind]
        except KeyError:
            limit = self._limits[kind] = self._limit(*kind)
        if limit is None:
            return
        whose: Hashable = (principal.id or principal.name) if principal else address
        buckets = self._keys if principal else self._addresses
        if wait := buckets.take((tag, whose) if limit.apart else whose, limit.rate, clock.monotonic()):
            raise _refusal(limit.name, limit.rate, wait, f"{'this key' if principal else 'this address'} asks too often")

    def failed(self, kind: str, address: str) -> TooManyRequests | None:
        """Something wrong was brought from there, of kind `password` or `wrong_key` (or a signature). What to answer instead of 401, where
        it was one too many."""
        rate = self._rates.get(kind)
        wait = self._failures.take((kind, address), rate, clock.monotonic()) if rate else 0.0
        return _refusal(kind, rate, wait, WRONG) if rate and wait else None

    def check_failures(self, kind: str, address: str) -> None:
        """Raises TooManyRequests where so many of that kind were wrong of late that no further one is looked at."""
        rate = self._rates.get(kind)
        if rate and (wait := self._failures.wait((kind, address), rate, clock.monotonic())):
            raise _refusal(kind, rate, wait, WRONG)

    def _limit(self, tag: str, roles: frozenset[str] | None) -> Limit | None:
        names = [f"tag:{tag}"] if self._is_named(f"tag:{tag}") else []
        apart = bool(names)
        if not names and roles is None:
            names = ["address"]
        elif not names:
            names = [name for role in sorted(roles or ()) if self._is_named(name := f"role:{role}")] or ["key"]
        if any(name in self._off or name not in self._rates for name in names):
            return None
        best = max(names, key=lambda name: self._rates[name])
        return Limit(best, self._rates[best], apart)

    def _is_named(self, name: str) -> bool:
        return name in self._rates or name in self._off


def _refusal(name: str, rate: Rate, wait: float, why: str) -> TooManyRequests:
    """With the fields of draft-ietf-httpapi-ratelimit-headers-10 beside Retry-After."""
    seconds = max(1, math.ceil(wait))
    window = max(1, math.ceil(rate.burst / rate.per_second))
    headers = [("RateLimit-Policy", f'"{name}";q={rate.burst:.0f};w={window}'), ("RateLimit", f'"{name}";r=0;t={seconds}')]
    told = f"{why}: {rate.per_second:g} a second are taken, {rate.burst:g} at once; wait {seconds} s"
    return TooManyRequests(told, retry_after=seconds, headers=headers)
