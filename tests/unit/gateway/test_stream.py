"""The event stream: what a topic names, where it goes on, who sees what, and that nothing is missed or comes twice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import eventlet
import pytest

from services.gateway import store, stream, stream_log
from services.gateway.scopes import Scopes
from services.gateway.stream import Stream, Topics, parse
from shared import contracts
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork
from shared.errors import Invalid, NotFound, Unavailable
from shared.http.endpoint import PUBLIC, Principal, Scope
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.gateway.listeners import Client, soon

ALL = frozenset(contracts.SCHEMAS)
ASSIGNED, QUEUED, STATE = "routing.contact_assigned.v1", "routing.contact_queued.v1", "routing.agent_state_changed.v1"
SUPERVISOR = Principal("s", frozenset(["supervisor"]))
NORTH = Principal("n", frozenset(["supervisor"]), scope=Scope(sites=frozenset(["north"])))


# ---- topics


@pytest.mark.parametrize(
    ("text", "topics"),
    [
        ("live", Topics(live=True)),
        ("*", Topics(types=ALL)),
        ("routing.*", Topics(types=frozenset(name for name in ALL if name.startswith("routing.")))),
        ("routing.offer_made", Topics(types=frozenset(["routing.offer_made.v1"]))),
        ("routing.offer_made.v1", Topics(types=frozenset(["routing.offer_made.v1"]))),
        ("*.contact_abandoned", Topics(types=frozenset(["gateway.contact_abandoned.v1", "routing.contact_abandoned.v1"]))),
        ("queue:sales, agent:a:b,contact:c", Topics(queues=frozenset(["sales"]), agents=frozenset(["a:b"]), contacts=frozenset(["c"]))),
        ("queue:a%2Cb,queue:100%", Topics(queues=frozenset(["a,b", "100%"]))),
        ("live,queue:live", Topics(live=True, queues=frozenset(["live"]))),
    ],
)
def test_topics(text: str, topics: Topics) -> None:
    assert parse(text) == topics


@pytest.mark.parametrize(
    "text", ["", "nonsense", "live,nonsense", "routing.nonsense.*", "queue:", "site:north", ",", "routing.offer_made.v9"]
)
def test_an_unknown_topic_is_refused_with_a_list_of_those_there_are(text: str) -> None:
    with pytest.raises(Invalid, match=r"unknown topic: .*queue:NAME, agent:ID, contact:ID") as refused:
        parse(text)
    assert refused.value.more["types"] == sorted(ALL)


def test_too_much_is_refused() -> None:
    for text in (",".join(["live"] * (stream.MOST_TOPICS + 1)), "queue:" + "x" * stream.LONGEST_TOPIC):
        with pytest.raises(Invalid, match="at most"):
            parse(text)


def entry(**named: Any) -> stream_log.Entry:
    return stream_log.Entry(
        **{
            "position": 1, "id": "1", "type": QUEUED, "at": 0.0, "subject": "s", "contact": "c", "queue": "q", "agent": None,
            "people": None, "body": "",
        }
        | named
    )  # fmt: skip


def test_an_event_is_wanted_when_any_topic_names_it() -> None:
    for topics in ("*", "routing.contact_*", "queue:q", "contact:c", "queue:other,contact:c"):
        assert parse(topics).wants(entry()), topics
    for topics in ("gateway.*", "queue:other", "agent:q", "contact:q"):
        assert not parse(topics).wants(entry()), topics
    assert parse("agent:a").wants(entry(agent="a"))
    assert parse("person:eve").wants(entry(people=frozenset({"bob", "eve"})))
    assert not parse("person:ev").wants(entry(people=frozenset({"bob", "eve"})))


# ---- the stream itself


class House:
    """A stream over a database, driven by hand, and its listeners."""

    def __init__(self, units: UnitOfWork) -> None:
        self.units = units
        self.board = SimpleNamespace(changes=0)
        self.stream = Stream(units, Scopes(SimpleNamespace(belongings=self.belongings, get_agent=self.no_agent)), self.board)
        self.sites = {"queues": {"q": ("north", ""), "p": ("south", "")}, "agents": {}}
        self.reachable = True
        self.clients: list[Client] = []
        self.number = 0

    def belongings(self) -> Any:
        if not self.reachable:
            raise Unavailable("routing is not in reach")
        return self.sites

    def no_agent(self, agent_id: str) -> Any:
        raise NotFound(f"no agent is called {agent_id}")

    def happens(self, *queues: str, type: str = ASSIGNED, agent: str | None = "a") -> None:
        """An event for each of the queues, numbered by its subject, in one transaction."""
        events = []
        for queue in queues:
            self.number += 1
            data = {"contact": f"c{self.number}", "queue": queue, "channel": "voice", "at": 1.0, "agent": agent}
            events.append(Event(type, str(self.number), data, 1.0, self.number))
        with self.units() as work:
            self.stream.write(work, events)

    def follow(self) -> None:
        """Tell all that the log has by now."""
        while True:
            before = self.stream.position
            self.stream._pause = 0.0
            self.stream.step()
            if self.stream.position == before:
                return

    def listen(
        self, topics: str, after: int | None = None, principal: Principal = SUPERVISOR, still: Callable[[], bool] = lambda: True
    ) -> Client:
        client = Client()
        self.clients.append(client)
        at, held = (None, None) if after is None else self.stream.place(after)
        frames = self.stream.listen(client.request, principal, parse(topics), at, held, still)

        def serve() -> None:
            for frame in frames:
                client.near.sendall(frame)
            client.near.shutdown(2)

        eventlet.spawn(serve)
        client.hears(b"retry: ")
        return client

    def close(self) -> None:
        for client in self.clients:
            client.close()
        soon(lambda: not self.stream.listeners)


@pytest.fixture
def house(make_units: MakeUnits) -> Iterator[House]:
    house = House(make_units(store.metadata))
    yield house
    house.close()


def heard(client: Client, last: int | None = None) -> list[int]:
    """The numbers of the events that a client was told, up to `last`."""
    if last is not None:
        client.hears(b'"subject":"%d"' % last)
    return [int(number) for number in re.findall(rb'"subject":"(\d+)"', client.read())]


def test_it_begins_now_and_tells_what_concerns_the_topics(house: House) -> None:
    house.happens("q", "q")
    everything, queue, agent = house.listen("*"), house.listen("queue:p"), house.listen("agent:b")
    house.happens("q", "p", "q")
    house.happens("p", agent="b")
    house.follow()
    assert heard(everything, 6) == [3, 4, 5, 6]
    assert heard(queue, 6) == [4, 6]
    assert heard(agent, 6) == [6]
    told = queue.read().split(b"\n\n")
    assert told[2].startswith(b"id: 4\nevent: routing.contact_assigned.v1\ndata: {")


def test_the_place_is_told_before_the_first_event_so_that_no_reconnection_misses_any(house: House) -> None:
    house.happens("q", "q")
    assert b"id: 2\n\n" in house.listen("queue:p").read()
    house.happens("q", "q", "p")
    house.follow()
    assert heard(house.listen("queue:p", after=2), 5) == [5]


def test_an_event_that_several_topics_name_comes_once(house: House) -> None:
    client = house.listen("*,queue:q,agent:a,contact:c1")
    house.happens("q", "q")
    house.follow()
    assert heard(client, 2) == [1, 2]


@pytest.mark.parametrize("kept", [2, 50, 1000])
def test_who_comes_back_gets_the_rest_from_memory_or_from_the_log(house: House, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT_EVENTS", kept)
    monkeypatch.setattr(stream, "WINDOW", 30)
    monkeypatch.setattr(stream, "CATCH_UP", 7)
    other = house.listen("queue:nobody")
    for _ in range(10):
        house.happens(*"qqqpqqqqqq")
    house.follow()
    for after in (0, 1, 55, 98, 99):
        assert heard(house.listen("*", after), 100) == list(range(after + 1, 101))
    assert heard(house.listen("queue:p", 14), 94) == [24, 34, 44, 54, 64, 74, 84, 94]
    nothing_new = house.listen("*", 100)
    house.happens("q")
    house.follow()
    assert heard(nothing_new, 101) == [101]
    assert heard(other) == []


def test_what_happens_while_somebody_catches_up_comes_after_it_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT_EVENTS", 5)
    monkeypatch.setattr(stream, "CATCH_UP", 10)
    house.listen("queue:nobody")
    house.happens(*["q"] * 60)
    house.follow()
    read = stream_log.between

    def meanwhile(*arguments: Any) -> Any:
        found = read(*arguments)
        if house.number < 100:
            house.happens("q", "q", "q")
            house.follow()
        return found

    monkeypatch.setattr(stream_log, "between", meanwhile)
    client = house.listen("*", 0)
    soon(lambda: house.number >= 100)
    house.happens("q")
    house.follow()
    assert heard(client, house.number) == list(range(1, house.number + 1))


def test_one_who_is_ahead_of_this_process_gets_nothing_twice(house: House) -> None:
    """The other process told it; this one has not read so far."""
    house.listen("queue:nobody")
    house.happens("q", "q", "q")
    client = house.listen("*", after=2)
    house.follow()
    assert heard(client, 3) == [3]


def test_what_is_not_kept_any_more_is_a_gap_that_says_from_when_on(house: House, at: SetClock) -> None:
    house.happens("q", "q", "q")
    at.forward(100)
    house.happens("q", "q")
    stream_log.prune(house.units, at() - 50)
    assert heard(house.listen("*", 3), 5) == [4, 5], "nothing is missing"
    client = house.listen("*", 2)
    assert heard(client, 5) == [4, 5]
    assert b'id: 3\nevent: gap\ndata: {"since":"2027-01-15T08:01:40.000Z"}' in client.read()
    assert b"event: gap" in house.listen("*", 77).hears(b'"subject":"5"'), "of another time: a database that was put back"


def test_who_listens_again_after_a_pause_of_all_begins_where_it_is_then(house: House) -> None:
    house.listen("*")
    house.happens("q")
    house.follow()
    house.close()
    house.happens("q", "q")
    client = house.listen("*")
    house.happens("q")
    house.follow()
    assert heard(client, 4) == [4]
    assert heard(house.listen("*", 1), 4) == [2, 3, 4]


@pytest.mark.parametrize("after", [0, 10, 17, 20])
def test_the_first_listener_may_come_back_for_more_than_is_made_ready_in_memory(
    house: House, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "KEPT_EVENTS", 5)
    house.happens(*["q"] * 20)
    client = house.listen("*", after)
    house.happens("q")
    house.follow()
    assert heard(client, 21) == list(range(after + 1, 22))


@pytest.mark.parametrize("kept", [1, 1000])
def test_who_must_not_see_all_gets_what_they_may_see_live_and_later(house: House, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT_EVENTS", kept)
    client = house.listen("*", principal=NORTH)
    house.happens(*"qpqpp")
    house.happens("", agent="somebody")
    house.follow()
    assert heard(client, 6) == [1, 3, 6]
    assert heard(house.listen("*", 1, NORTH), 6) == [3, 6]
    assert heard(house.listen("*", 1), 6) == [2, 3, 4, 5, 6]


def test_who_cannot_be_judged_is_cut_off_to_come_again_and_others_go_on(house: House) -> None:
    client, other = house.listen("*", principal=NORTH), house.listen("*")
    house.reachable = False
    house.happens("q", "q")
    house.follow()
    assert heard(other, 2) == [1, 2]
    assert soon(client.is_cut_off)
    house.reachable = True
    assert heard(house.listen("*", 0, NORTH), 2) == [1, 2]


def test_who_may_not_listen_any_more_is_let_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.01)
    allowed = [True]
    client = house.listen("*", still=lambda: allowed[0])
    client.hears(b"id: 0\n\nid: 0\n\n")
    allowed[0] = False
    assert soon(client.is_cut_off)


def test_a_heartbeat_moves_the_place_on_past_what_was_of_no_concern(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.05)
    client = house.listen("queue:p")
    house.happens("q", "q", "q")
    house.follow()
    assert heard(client) == []
    client.hears(b"\n\nid: 3\n\n")


def test_a_process_takes_so_many_and_no_more(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_LISTENERS", 2)
    first = house.listen("*")
    house.stream.require_room()
    house.listen("*")
    with pytest.raises(Unavailable, match="2 listen here already"):
        house.stream.require_room()
    first.close()
    soon(lambda: house.stream.listeners == 1)
    house.stream.require_room()


# ---- the wallboard's figures


FIGURES = {"queues": [{"queue": "q", "waiting": 1}, {"queue": "p", "waiting": 2}], "agents": []}


def test_figures_come_to_all_who_watch_and_only_when_they_changed(house: House, at: SetClock) -> None:
    one, other, asked = house.listen("live", principal=PUBLIC), house.listen("live,queue:q"), []

    def ask() -> dict[str, Any]:
        asked.append(at())
        return {"queues": [{"queue": "q", "waiting": house.board.changes}], "agents": []}

    for _ in range(5):
        house.stream.live.step(ask)
    house.stream.fanout.settle()
    house.board.changes = 7
    for _ in range(5):
        house.stream.live.step(ask)
    for client in (one, other):
        assert re.findall(rb'"waiting":(\d)', client.hears(b'"waiting":7')) == [b"0", b"7"]
    assert len(asked) == 2
    at.forward(stream.ASK_ANYWAY_SECONDS)
    house.stream.live.step(ask)
    assert len(asked) == 3, "in case news were missed"
    late = house.listen("live")
    house.stream.live.step(ask)
    late.hears(b'"waiting":7')
    assert one.read().count(b"event: figures") == 2
    assert b"id: " not in one.read(), "figures have no place to come back to"


def test_figures_are_those_of_what_one_sees(house: House) -> None:
    north, all_of_it = house.listen("live", principal=NORTH), house.listen("live")
    house.stream.live.step(lambda: FIGURES)
    assert b'"queues":[{"queue":"q","waiting":1}]' in north.hears(b"figures")
    assert b'"queue":"p"' in all_of_it.hears(b"figures")


def test_without_routing_the_page_is_told_so_and_routing_is_not_asked_at_every_news(house: House, at: SetClock) -> None:
    client, asked = house.listen("live"), []

    def fail() -> dict[str, Any]:
        asked.append(1)
        raise Unavailable("routing is not in reach")

    for _ in range(5):
        house.board.changes += 1
        house.stream.live.step(fail)
    assert len(asked) == 1
    assert b'"detail":"routing is not in reach"' in client.hears(b"event: unavailable")
    at.forward(stream.ASK_ANYWAY_SECONDS)
    house.stream.live.step(lambda: FIGURES)
    client.hears(b"event: figures")


def test_nobody_is_asked_while_nobody_watches(house: House) -> None:
    house.board.changes = 1
    house.stream.live.step(lambda: pytest.fail("asked"))


# ---- questions to experts


def person(name: str, *roles: str, sites: tuple[str, ...] = ()) -> Principal:
    return Principal(name, frozenset(roles), person=name, scope=Scope(frozenset(sites)))


def asks(house: House, *people: str, queue: str = "q") -> None:
    house.number += 1
    data = {
        "escalation": "e", "code": "K7Q2XM", "contact": "c", "queue": queue, "channel": "voice", "customer": None, "topic": "router", "agent": "anna",
        "people": list(people), "at": 1.0, "reason": "",
    }  # fmt: skip
    with house.units() as work:
        house.stream.write(work, [Event("im.escalation_closed.v1", str(house.number), data, 1.0, house.number)])


def test_a_person_hears_of_the_questions_that_concern_them_wherever_those_belong(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.listen("queue:nobody")
    eve, far = (
        house.listen("im.*", principal=person("eve", "expert")),
        house.listen("*", principal=person("eve", "expert", sites=("south",))),
    )
    lead, key = house.listen("im.*", principal=person("lea", "supervisor")), house.listen("im.*")
    asks(house, "anna", "bob")
    asks(house, "anna", "eve")
    asks(house, "anna", "evelyn")
    asks(house, "eve")
    house.follow()
    for one in (eve, far):
        assert heard(one, 4) == [2, 4]
    for one in (lead, key):
        assert heard(one, 4) == [1, 2, 3, 4]
    monkeypatch.setattr(stream, "KEPT_EVENTS", 1)
    asks(house)
    asks(house, "eve")
    house.follow()
    assert heard(house.listen("im.*", 0, person("eve", "expert")), 6) == [2, 4, 6], "from the log too"


def test_what_names_nobody_is_for_those_who_lead(house: House) -> None:
    """What a customer said, or whose figures are odd."""
    house.listen("queue:nobody")
    desk, telephony = (house.listen("im.*", principal=Principal(role, frozenset([role]))) for role in ("agent", "telephony"))
    lead = house.listen("im.*", principal=Principal("lead", frozenset(["supervisor"])))
    asks(house)
    asks(house, "anna")
    house.follow()
    assert heard(desk, 2) == heard(telephony, 2) == [2]
    assert heard(lead, 2) == [1, 2]


@pytest.mark.parametrize("kept", [1, 1000])
def test_what_a_customer_said_goes_to_keys_and_to_no_person(house: House, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lead asks quality for it, which notes who has looked: they evaluate that contact no more."""
    monkeypatch.setattr(stream, "KEPT_EVENTS", kept)
    roles = frozenset(["supervisor"])
    key, lead = Principal("board", roles), Principal("lea", roles, "lea", "lea")
    now = [house.listen("gateway.*", principal=principal) for principal in (key, lead)]
    for _ in range(2):
        house.number += 1
        data = {"contact": "c", "answer": "a", "satisfied": 1, "people": [], "at": 1.0}
        with house.units() as work:
            house.stream.write(work, [Event("gateway.survey_answered.v1", str(house.number), data, 1.0, house.number)])
    house.happens("q")
    house.follow()
    later = [house.listen("*", 0, principal) for principal in (key, lead)]
    assert heard(now[0], 2) == [1, 2]
    assert heard(later[0], 3) == [1, 2, 3]
    assert heard(later[1], 3) == [3]
    assert b"satisfied" not in now[1].read()


@pytest.mark.parametrize("kept", [1, 1000])
def test_a_persons_topic_is_all_that_concerns_them(house: House, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT_EVENTS", kept)
    now = house.listen("person:eve")
    asks(house, "anna", "eve")
    asks(house, "anna", "ev%")
    house.happens("q", agent="eve")
    asks(house, "eve")
    house.follow()
    assert heard(now, 4) == heard(house.listen("person:eve", 0), 4) == [1, 4]


@pytest.mark.parametrize("kept", [1, 1000])
def test_of_people_one_hears_what_the_directory_shows_one(house: House, kept: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEPT_EVENTS", kept)
    everywhere = house.listen("*")
    for name, site in (("nora", "north"), ("sue", "south"), ("vic", ""), ("ann", "south")):
        house.number += 1
        data = {"person": name, "name": name, "site": site, "team": "", "roles": ["agent"], "language": "", "active": True}
        with house.units() as work:
            house.stream.write(work, [Event("gateway.person_changed.v1", str(house.number), data, 1.0, house.number)])
    house.happens("")
    house.follow()
    assert heard(everywhere, 5) == [1, 2, 3, 4, 5]
    assert heard(house.listen("*", 0, NORTH), 5) == [1, 3, 5]
    assert heard(house.listen("*,person:ann", 0, person("ann", "agent", "expert")), 4) == [4]


def test_who_listens_is_there_for_as_long_as_one_of_their_streams_is_open(house: House) -> None:
    house.listen("*")
    first, second = (house.listen("*", principal=person("eve", "expert")) for _ in range(2))
    assert house.stream.people() == ["eve"]
    first.close()
    house.happens("q")
    soon(lambda: house.stream.listeners == 2 or house.follow())
    assert house.stream.people() == ["eve"]
    second.close()
    soon(lambda: house.stream.people() == [] or house.follow())
