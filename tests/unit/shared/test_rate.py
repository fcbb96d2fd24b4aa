"""Who is counted, how often they may ask, and that a million of them fill no memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from shared.config import RATES, Rate, Settings
from shared.errors import TooManyRequests
from shared.http.address import Proxies
from shared.http.endpoint import Principal
from shared.http.rate import Buckets, Limits
from tests.unit.conftest import SetClock

PBX = Principal("pbx1", frozenset(["telephony"]), "k1")
ANN = Principal("ann", frozenset(["agent"]), "k2")


def through(proxies: str, peer: str, forwarded: str = "") -> str:
    environ = {"REMOTE_ADDR": peer} | ({"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {})
    return Proxies(Settings(trusted_proxies=proxies).proxies).client_of(environ)


def asked(limits: Limits, tag: str, principal: Principal | None, address: str = "192.0.2.1", times: int = 1) -> int:
    """How many of so many requests at one moment are let in."""
    let_in = 0
    for _ in range(times):
        try:
            limits.spend(tag, principal, address)
            let_in += 1
        except TooManyRequests:
            pass
    return let_in


# ---- buckets


def test_a_bucket_is_emptied_at_once_and_filled_steadily() -> None:
    buckets, rate = Buckets(), Rate(2, 5)
    assert [buckets.take("a", rate, 100.0) for _ in range(6)] == [0, 0, 0, 0, 0, pytest.approx(0.5)]
    assert buckets.take("b", rate, 100.0) == 0
    assert buckets.take("a", rate, 100.4) == pytest.approx(0.1)
    assert buckets.take("a", rate, 100.5) == 0
    assert buckets.take("a", rate, 100.5) == pytest.approx(0.5)
    assert [buckets.take("a", rate, 200.0) for _ in range(6)][4:] == [0, pytest.approx(0.5)]


def test_who_only_looks_takes_nothing() -> None:
    buckets, rate = Buckets(), Rate(1, 1)
    assert [buckets.wait("a", rate, 5.0) for _ in range(3)] == [0, 0, 0]
    buckets.take("a", rate, 5.0)
    assert [buckets.wait("a", rate, 5.0) for _ in range(3)] == [pytest.approx(1)] * 3


@given(
    some.lists(some.floats(0, 3), min_size=1, max_size=60),
    some.integers(1, 10),
    some.sampled_from([0.5, 1.0, 4.0, 1000.0]),
    some.floats(0, 1e9),
)
def test_never_more_than_the_burst_and_what_has_flowed_in_since(pauses: list[float], burst: int, per_second: float, start: float) -> None:
    buckets, rate, now, let_in = Buckets(), Rate(per_second, burst), start, []
    for pause in pauses:
        now += pause
        if not buckets.take("a", rate, now):
            let_in.append(now)
    for first, since in enumerate(let_in):
        for last in range(first, len(let_in)):
            assert last - first + 1 <= burst + (let_in[last] - since) * per_second + 1e-3


def test_a_wait_that_was_told_is_enough() -> None:
    buckets, rate, now = Buckets(), Rate(3, 2), 0.0
    for _ in range(50):
        while wait := buckets.take("a", rate, now):
            now += wait
    assert now == pytest.approx(16.0, abs=0.01)


def test_a_million_addresses_fill_no_memory_and_forget_no_busy_one() -> None:
    buckets, rate = Buckets(most=1000), Rate(1, 2)
    for number in range(1_000_000):
        buckets.take(number, rate, 50.0)
        if number % 900 == 0:
            buckets.take("busy", rate, 50.0)
    assert len(buckets) <= 2000
    assert buckets.take("busy", rate, 50.0) > 0, "who was refused again and again is still refused"


# ---- who


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "client"),
    [
        ("", "192.0.2.1", "", "192.0.2.1"),
        ("", "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.5", "192.0.2.1", "198.51.100.7", "192.0.2.1"),
        ("10.0.0.5", "10.0.0.5", "198.51.100.7", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.5", "203.0.113.9, 198.51.100.7, 10.1.1.1", "198.51.100.7"),
        ("10.0.0.0/8", "10.0.0.5", "10.3.3.3, 10.1.1.1", "10.3.3.3"),
        ("10.0.0.5", "10.0.0.5", "198.51.100.7:5123", "198.51.100.7"),
        ("10.0.0.5", "10.0.0.5", "nobody, unknown", "10.0.0.5"),
        ("10.0.0.5", "10.0.0.5", "198.51.100.7, ", "10.0.0.5"),
        ("10.0.0.5", "::ffff:10.0.0.5", "198.51.100.7", "198.51.100.7"),
        ("", "::ffff:192.0.2.1", "", "192.0.2.1"),
        ("", "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"),
        ("::1", "::1", "[2001:db8:1:2::9]:443", "2001:db8:1:2::"),
        ("10.0.0.0/8", "10.0.0.5", ", ".join(["198.51.100.7"] + ["10.0.0.1"] * 1000), "10.0.0.1"),
    ],
)
def test_only_a_proxy_that_is_trusted_says_for_whom_it_asks(proxies: str, peer: str, forwarded: str, client: str) -> None:
    assert through(proxies, peer, forwarded) == client


# ---- how often


def test_a_pbx_that_posts_a_thousand_events_a_second_is_never_refused(at: SetClock) -> None:
    limits = Limits(RATES, Proxies())
    for _ in range(60):
        assert asked(limits, "telephony", PBX, times=1000) == 1000
        at.forward(1)


def test_each_key_and_each_address_has_its_own(at: SetClock) -> None:
    limits = Limits({"key": Rate(1, 3), "address": Rate(1, 2)}, Proxies())
    assert asked(limits, "contacts", ANN, times=10) == 3
    assert asked(limits, "contacts", PBX, times=10) == 3
    assert asked(limits, "queues", ANN, times=10) == 0, "one bucket for all doors"
    assert [asked(limits, "pages", None, address, 10) for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")] == [2, 2, 0]


def test_the_most_generous_of_somebodys_roles_counts_and_a_tag_before_it(at: SetClock) -> None:
    limits = Limits({"key": Rate(1, 1), "role:agent": Rate(1, 2), "role:telephony": Rate(1, 5), "tag:reports": Rate(1, 3)}, Proxies())
    both = Principal("both", frozenset(["agent", "telephony", "trainer"]), "k3")
    assert asked(limits, "contacts", both, times=10) == 5
    assert asked(limits, "reports", both, times=10) == 3, "counted apart"
    assert asked(limits, "contacts", Principal("new", frozenset(["trainer"]), "k4"), times=10) == 1
    assert asked(limits, "contacts", Principal("ann again", frozenset(["agent"]), "k5"), times=10) == 2


def test_what_is_off_is_without_limit(at: SetClock) -> None:
    limits = Limits(Settings(rate_limits="key=off tag:reports=off address=off wrong_key=off password=off").rates, Proxies())
    assert asked(limits, "reports", ANN, times=20_000) == asked(limits, "contacts", None, times=20_000) == 20_000
    assert limits.failed("wrong_key", "192.0.2.1") is None
    limits.check_failures("password", "192.0.2.1")
