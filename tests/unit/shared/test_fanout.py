"""One stream to many: order, and that a listener who does not read costs the others nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import eventlet
import pytest

from shared.runtime import fanout
from shared.runtime.fanout import MOST_WAITING, STALLED_SECONDS, Fanout
from tests.unit.conftest import SetClock
from tests.unit.gateway.listeners import Client, soon

BIG = b"x" * 8000


@pytest.fixture
def client() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def make(protocol: str = "HTTP/1.0") -> Client:
        made.append(Client(protocol))
        return made[-1]

    yield make
    for one in made:
        one.close()


def stuff(hub: Fanout, client: Client) -> fanout.Listener:
    """A listener who has been sent more than fits between here and there, and reads nothing."""
    listener = client.listener()
    while not hub._stuck:
        hub.put(listener, BIG)
        eventlet.sleep(0.001)
    return listener


def test_each_listener_gets_its_frames_in_order(client: Callable[..., Client]) -> None:
    hub, clients = Fanout(), [client() for _ in range(20)]
    listeners = [one.listener() for one in clients]
    for number in range(500):
        for listener in listeners[number % 2 :: 2]:
            hub.put(listener, b"%d;" % number)
    hub.settle()
    for index, one in enumerate(clients):
        assert one.hears(b"%d;" % (498 + index % 2)) == b"".join(b"%d;" % number for number in range(index % 2, 500, 2))
    assert all(listener.idle for listener in listeners)


def test_chunks_are_as_http_1_1_has_them(client: Callable[..., Client]) -> None:
    hub, modern = Fanout(), client("HTTP/1.1")
    listener = modern.listener()
    hub.put(listener, b"a" * 10)
    hub.put(listener, b"b" * 7)
    assert modern.hears(b"bbb\r\n") == b"11\r\n" + b"a" * 10 + b"b" * 7 + b"\r\n"


def test_who_does_not_read_delays_nobody_and_is_cut_off_when_too_much_waits(client: Callable[..., Client]) -> None:
    cut: list[None] = []
    hub, slow, quick = Fanout(lambda: cut.append(None)), client(), client()
    listener, other = stuff(hub, slow), quick.listener()
    hub.put(other, b"hello")
    hub.settle()
    assert quick.hears(b"hello")
    for number in range(MOST_WAITING + 1):
        hub.put(listener, b"y")
        hub.put(other, b"%d;" % number)
        eventlet.sleep(0)
    assert cut == [None]
    assert listener.over
    assert quick.hears(b";%d;" % MOST_WAITING)
    assert soon(slow.is_cut_off)
    hub.put(listener, b"z")
    assert listener.idle, "nothing is kept for it any more"


def test_who_takes_nothing_for_too_long_is_cut_off_and_who_takes_a_little_is_not(client: Callable[..., Client], at: SetClock) -> None:
    cut: list[None] = []
    hub = Fanout(lambda: cut.append(None))
    stalled, slow = client(), client()
    first = stuff(hub, stalled)
    second = slow.listener()
    while len(hub._stuck) < 2:
        hub.put(second, BIG)
        eventlet.sleep(0.001)

    def time_passes() -> bool:
        """More than it takes to try again; one of them reads a little."""
        at.forward(0.06)
        slow.socket.recv(2000)
        hub.put(second, BIG)
        return bool(cut)

    began = at()
    soon(time_passes)
    assert at() - began > STALLED_SECONDS
    assert (first.over, second.over, cut) == (True, False, [None])


def test_the_newest_takes_the_place_of_those_before_that_were_not_on_their_way(client: Callable[..., Client]) -> None:
    hub, one = Fanout(), client()
    listener = stuff(hub, one)
    for number in range(1000):
        hub.put_latest(listener, b"<%d>" % number)
    assert one.hears(b"<999>").count(b"<") == 1


def test_who_has_gone_is_noticed_and_forgotten(client: Callable[..., Client]) -> None:
    hub, one, other = Fanout(), client(), client()
    listener, deaf = one.listener(), other.listener()
    waiting = eventlet.spawn(listener.wait, 60)
    eventlet.sleep(0)
    one.socket.close()
    assert waiting.wait() is True
    other.socket.close()

    def gone() -> bool:
        hub.put(deaf, BIG)
        return deaf.over

    soon(gone)
    hub.settle()
    assert not hub._due
    assert not hub._stuck


def test_a_wait_ends_when_its_time_is_up_and_when_the_listener_is_cut_off(client: Callable[..., Client]) -> None:
    hub, one = Fanout(), client()
    listener = one.listener()
    assert listener.wait(0.01) is False
    one.socket.send(b"a request sent ahead")
    assert listener.wait(0.01) is False, "it is there all the same"
    two = client().listener()
    waiting = eventlet.spawn(two.wait, 60)
    eventlet.sleep(0)
    hub.cut(two)
    assert waiting.wait() is True


def test_a_long_round_lets_others_have_their_turn(client: Callable[..., Client], at: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice ends when its time is up: here each write takes longer than a slice."""
    hub, turns = Fanout(), 0
    listeners = [client().listener() for _ in range(10)]
    flush = fanout.Listener.flush

    def slowly(listener: fanout.Listener) -> bool:
        at.forward(2 * fanout.SLICE_SECONDS)
        return flush(listener)

    monkeypatch.setattr(fanout.Listener, "flush", slowly)

    def count() -> None:
        nonlocal turns
        while not all(listener.idle for listener in listeners):
            turns += 1
            eventlet.sleep(0)

    for listener in listeners:
        hub.put(listener, b"x")
    counting = eventlet.spawn(count)
    hub.settle()
    counting.wait()
    assert turns >= len(listeners) - 1
