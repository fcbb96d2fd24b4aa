"""Two desks with a pool each on one database: whatever is given by one is taken by the other, once."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import eventlet
import orjson
import pytest
from sqlalchemy import select

from services.routing import handlers, rulebook, shard_store, sharding, store, training_store
from services.routing.domain.errors import Conflict
from services.routing.live import Command, LiveDesk
from services.routing.service import RoutingCore
from services.routing.sharding import Shard
from shared import contracts
from shared.bus import deadletters, inbox
from shared.bus.envelope import Event
from shared.bus.inbox import Inbox
from shared.bus.outbox import UnitOfWork, Work
from shared.config import SettingError, Settings
from shared.errors import Elsewhere
from shared.ids import new_id
from shared.runtime import runner, shards
from shared.runtime.shards import Holder, fair_share
from tests.unit.conftest import MakeUnits, SetClock
from tests.unit.routing.test_handlers import LEG

HERE, THERE = 0, 1
"""`default` and its queue `here` belong to the first shard, `east` and its queue `there` to the second."""


class Centre:
    """Ann works here and Eve there; both are available."""

    def __init__(self, units: UnitOfWork, at: SetClock) -> None:
        self.units, self.at = units, at
        self.told: list[int] = []
        self.desks = [self.open(shard) for shard in (HERE, THERE)]
        for name, agent, pool in (("here", "ann", "default"), ("there", "eve", "east")):
            shard = (HERE, THERE)[pool == "east"]
            self.do(shard, lambda desk, _now, name=name, pool=pool: handlers.put_queue(desk, {"name": name, "pool": pool}))
            self.do(shard, lambda desk, _now, agent=agent, pool=pool: desk.put_agent(agent, channels=["voice"], pool=pool))
            self.do(shard, lambda desk, now, agent=agent: desk.set_agent_state(agent, "available", now))
        self.catch_up()
        self.told.clear()

    def open(self, shard: int) -> LiveDesk:
        """As after a take-over: everything is read anew."""
        with self.units() as work:
            shard_store.assign_pools(work.connection, ["east"], 2)
        return LiveDesk(self.units, shard=Shard(self.units, shard, 2, self.told.append))

    def do(self, shard: int, command: Command) -> Any:
        (result,) = self.desks[shard].execute([command])
        return result

    def ask(self, shard: int, question: Command) -> Any:
        """When its turn, with all that follows, is over."""
        self.do(shard, lambda _desk, _now: None)
        return self.do(shard, question)

    def catch_up(self) -> None:
        for shard in (HERE, THERE, HERE):
            self.do(shard, lambda _desk, _now: None)

    def event(self, what: str, contact: str, sequence: int = 1, **leg: Any) -> Event:
        data: dict[str, Any] = {"contact": contact, "source": "pbx1", "channel": "voice", "required_skills": {}}
        data["leg"] = {**LEG, "arrived_at": self.at(), **leg}
        return Event(f"gateway.{what}.v1", contact, data, self.at(), sequence)

    def hear(self, *events: Event) -> None:
        with self.units() as work:
            handlers.receive(self.desks[HERE], work, events)

    def arrive(self, queue: str, catch_up: bool = True) -> str:
        contact = new_id()
        self.hear(self.event("contact_arrived", contact, queue=queue))
        if catch_up:
            self.catch_up()
        return contact

    def offers(self, shard: int, agent: str) -> list[dict[str, Any]]:
        return list(self.ask(shard, lambda desk, _now: handlers.offers_to(desk, agent)))

    def accept(self, shard: int, agent: str) -> str:
        (offer,) = self.offers(shard, agent)
        self.do(shard, lambda desk, now: desk.accept(offer["id"], agent, now))
        return str(offer["contact"])

    def state(self, shard: int, contact: str) -> str | None:
        return self.ask(shard, lambda desk, _now: desk.contacts[contact].state if desk.holds(contact) else None)

    def agent(self, shard: int, agent: str) -> str | None:
        return self.ask(shard, lambda desk, _now: desk.agents[agent].state if agent in desk.agents else None)

    def rows(self, table: Any) -> list[Any]:
        with self.units.database.reading() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key)).all())

    def announced(self, contact: str) -> list[str]:
        return [row.type.split(".")[1] for row in self.rows(self.units.tables.outbox) if row.subject == contact]

    def refuse(self, contact: str, fault: Exception) -> None:
        """The second shard stumbles over whatever is about this contact."""
        hear = self.desks[THERE].hear

        def trip(work: Work, desk: Any, events: Any, news: Any) -> None:
            if any(event.data["contact"] == contact for event in events):
                raise fault
            hear(work, desk, events, news)

        self.desks[THERE].hear = trip  # type: ignore[method-assign]


@pytest.fixture
def centre(make_units: MakeUnits, at: SetClock) -> Centre:
    return Centre(make_units(store.metadata), at)


# ---- whose a pool is


def test_a_new_pool_goes_to_the_shard_with_the_fewest(make_units: MakeUnits) -> None:
    with make_units(store.metadata)() as work:
        assert shard_store.pools(work.connection) == {"default": 0}
        assert shard_store.assign_pools(work.connection, ["b", "a"], 3) == {"default": 0, "a": 1, "b": 2}
        assert shard_store.assign_pools(work.connection, ["c", "a"], 3) == {"default": 0, "a": 1, "b": 2, "c": 0}
        assert shard_store.pools(work.connection)["c"] == 0


def test_with_more_shards_than_before_everybody_is_found_where_their_pool_goes(make_units: MakeUnits, at: SetClock) -> None:
    units = make_units(store.metadata)
    alone = LiveDesk(units)
    for name, pool, agent in (("here", "default", "ann"), ("there", "east", "eve")):
        alone.execute([lambda desk, _now, name=name, pool=pool: handlers.put_queue(desk, {"name": name, "pool": pool, "wrap_up": False})])
        alone.execute([lambda desk, _now, agent=agent, pool=pool: desk.put_agent(agent, channels=["voice"], pool=pool)])
        alone.execute([lambda desk, now, agent=agent: desk.set_agent_state(agent, "available", now)])
    talking, waiting = new_id(), new_id()
    alone.execute([lambda desk, now: desk.arrive(talking, "there", now)])
    alone.execute([lambda desk, now: desk.accept(desk.contacts[talking].offer, "eve", now)])
    alone.execute([lambda desk, now: desk.arrive(waiting, "there", now)])
    desks = [LiveDesk(units, shard=Shard(units, shard, 3, lambda _shard: None)) for shard in range(3)]
    for _ in range(3):
        for desk in desks:
            desk.execute([lambda _desk, _now: None])
    home = desks.index(next(desk for desk in desks if desk.has(queue="there")))
    assert (home, [desk.has(queue="here") for desk in desks].count(True)) == (1, 1)

    def where(**named: str) -> list[int]:
        return [number for number, desk in enumerate(desks) if desk.look(lambda _desk, _now: None) is None and desk.has(**named)]

    assert (where(contact=waiting), where(agent="eve"), where(contact=talking)) == ([home], [HERE], [HERE]), (
        "who is at work stays until free"
    )
    desks[HERE].execute([lambda desk, now: desk.hang_up(talking, now)])
    for _ in range(2):
        for desk in desks:
            desk.execute([lambda _desk, _now: None])
    assert where(agent="eve") == [home]
    (offers,) = desks[home].execute([lambda desk, _now: handlers.offers_to(desk, "eve")])
    assert [offer["contact"] for offer in offers] == [waiting]


def test_fewer_shards_than_before_are_refused(centre: Centre) -> None:
    sharding.check(centre.units.database, 2)
    with pytest.raises(SettingError, match="cannot be lowered to 1"):
        sharding.check(centre.units.database, 1)


# ---- events


def test_an_arrival_in_the_other_shards_queue_is_offered_there_once(centre: Centre) -> None:
    contact = centre.arrive("there", catch_up=False)
    assert centre.told == [THERE], "it is told at once that there is something for it"
    assert centre.state(HERE, contact) is None
    assert [offer["contact"] for offer in centre.offers(THERE, "eve")] == [contact]
    assert centre.announced(contact) == ["contact_queued", "offer_made"]
    centre.catch_up()
    assert (centre.announced(contact), centre.rows(shard_store.mailbox)) == (["contact_queued", "offer_made"], [])


def test_what_follows_an_arrival_reaches_the_shard_that_has_the_contact(centre: Centre) -> None:
    contact = centre.arrive("there", catch_up=False)
    centre.hear(centre.event("contact_abandoned", contact, 2, queue="there", outcome="abandoned"))
    centre.catch_up()
    assert (centre.state(THERE, contact), centre.rows(store.leg)[0].outcome) == ("abandoned", "abandoned")
    assert centre.offers(THERE, "eve") == []


def test_the_pbx_moves_a_contact_to_a_queue_of_the_other_shard(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.hear(centre.event("contact_arrived", contact, 2, number=2, queue="there"))
    centre.catch_up()
    assert (centre.state(HERE, contact), centre.offers(HERE, "ann")) == (None, [])
    assert [offer["contact"] for offer in centre.offers(THERE, "eve")] == [contact]


def test_an_event_follows_a_contact_that_has_moved_on(centre: Centre) -> None:
    contact = centre.arrive("there")
    centre.accept(THERE, "eve")
    centre.hear(centre.event("contact_ended", contact, 2, queue="there", outcome="completed"))
    turn = centre.desks[THERE]
    mail, turn.shard.take_mail = turn.shard.take_mail, lambda *_: None  # type: ignore[method-assign]
    centre.do(THERE, lambda desk, now: desk.transfer(contact, now, queue="here"))
    turn.shard.take_mail = mail  # type: ignore[method-assign]
    centre.catch_up()
    assert centre.state(HERE, contact) == "abandoned"


def test_an_event_that_is_refused_there_is_a_dead_letter_and_may_be_tried_again(centre: Centre) -> None:
    bus = Inbox(centre.units, lambda work, events: handlers.receive(centre.desks[HERE], work, events))
    contact = new_id()
    centre.refuse(contact, Conflict("no"))
    arrival = centre.event("contact_arrived", contact, queue="there")
    told = replace(arrival, data=contracts.write(arrival.type, arrival.data))
    bus.process([orjson.dumps(told.envelope())])
    centre.catch_up()
    later = centre.arrive("there")
    assert centre.state(THERE, later) == "offered", "the others go on"

    def sums() -> tuple[int, ...]:
        with centre.units.database.reading() as connection:
            found = inbox.sums(connection, centre.units)
        return found["received"], found["applied"], found["dead"]

    assert sums() == (1, 0, 1)
    assert deadletters.retry(centre.units) == 1
    bus.retry_due()
    assert sums() == (1, 1, 0)
    centre.catch_up()
    assert sums() == (1, 0, 1)


def test_a_fault_costs_turns_but_nothing_else(centre: Centre) -> None:
    broken = centre.arrive("there", catch_up=False)
    fine = centre.arrive("there", catch_up=False)
    centre.refuse(broken, KeyError("a bug"))
    for _ in range(2):
        with pytest.raises(KeyError):
            centre.do(THERE, lambda _desk, _now: None)
    assert centre.state(THERE, fine) == "offered"
    assert [(row.subject, row.state) for row in centre.rows(centre.units.tables.set_aside)] == [(broken, "dead")]


# ---- moves


def test_a_transferred_contact_goes_over_while_its_giver_wraps_up(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there"))
    assert (centre.state(HERE, contact), centre.agent(HERE, "ann")) == (None, "wrap_up")
    centre.desks[HERE] = centre.open(HERE)
    assert centre.accept(THERE, "eve") == contact
    noted = {"code": "sold", "resolved": None, "amount": None, "currency": None}
    centre.do(HERE, lambda desk, now: desk.end_wrap_up("ann", now, contact_id=contact, disposition=noted))
    assert centre.agent(HERE, "ann") == "available"
    centre.do(THERE, lambda desk, now: desk.complete(contact, now))
    assert [row.shard for row in centre.rows(store.contact)] == [THERE]
    legs = [(row.outcome, row.agent) for row in centre.rows(store.leg) if row.contact == contact]
    assert legs == [("transferred", "ann"), ("completed", "eve")]


def test_a_contact_that_comes_back_is_held_here_again(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there"))
    centre.accept(THERE, "eve")
    centre.do(THERE, lambda desk, now: desk.transfer(contact, now, queue="here"))
    centre.do(HERE, lambda desk, now: desk.set_agent_state("ann", "available", now))
    assert centre.accept(HERE, "ann") == contact
    assert (centre.state(HERE, contact), centre.state(THERE, contact)) == ("assigned", None)
    told = [name for name in centre.announced(contact) if name in ("contact_assigned", "contact_transferred")]
    assert told == ["contact_assigned", "contact_transferred"] * 2 + ["contact_assigned"]


def test_the_numbers_of_a_contacts_events_rise_from_desk_to_desk(centre: Centre) -> None:
    centre.desks[HERE]._sequence = 10**17  # a clock that is ahead
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there"))
    centre.accept(THERE, "eve")
    numbers = [row.body["sequence"] for row in centre.rows(centre.units.tables.outbox) if row.subject == contact]
    assert numbers == sorted(set(numbers))


def test_an_agent_changes_shards_when_free_of_work(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    centre.do(HERE, lambda desk, _now: desk.put_agent("ann", channels=["voice"], pool="east"))
    waiting = centre.arrive("here")
    assert (centre.agent(HERE, "ann"), centre.agent(THERE, "ann")) == ("busy", None)
    centre.do(HERE, lambda desk, now: desk.complete(contact, now))
    centre.do(HERE, lambda desk, now: desk.set_agent_state("ann", "available", now))
    centre.catch_up()
    assert (centre.agent(HERE, "ann"), centre.agent(THERE, "ann")) == (None, "available")
    assert centre.state(HERE, waiting) == "waiting", "it waits for somebody of its own pool"
    assert {row.id: row.shard for row in centre.rows(store.agent)} == {"ann": THERE, "eve": THERE}


def test_a_queue_that_changes_pools_takes_those_who_wait_along(centre: Centre) -> None:
    centre.accept(HERE, "ann") if centre.arrive("here") else None
    waiting = centre.arrive("here")
    centre.do(HERE, lambda desk, _now: handlers.put_queue(desk, {"name": "here", "pool": "east"}))
    assert centre.accept(THERE, "eve") == waiting
    assert centre.agent(HERE, "ann") == "busy", "a conversation is not torn apart"


def test_nothing_is_lost_when_both_begin_anew_in_the_middle_of_a_move(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there"))
    centre.desks = [centre.open(shard) for shard in (HERE, THERE)]
    assert centre.accept(THERE, "eve") == contact
    assert centre.state(HERE, contact) is None


# ---- what all must know


def test_an_emergency_turns_away_those_who_wait_in_every_shard(centre: Centre) -> None:
    waiting = [centre.arrive(queue) for queue in ("here", "here", "there", "there")]
    request = {"kind": "emergency", "reason": "fire", "message": {"en": "fire"}}
    centre.desks[THERE].change_rules(rulebook.put_closure, [request, "boss"])
    assert centre.told[-1] == HERE
    centre.catch_up()
    states = [centre.state(shard, contact) for shard, contact in zip((HERE, HERE, THERE, THERE), waiting, strict=True)]
    assert states == ["closed"] * 4
    assert centre.state(HERE, centre.arrive("here")) == "closed", "and those who come"


def test_a_learner_practises_while_a_supervisor_of_another_shard_is_there(centre: Centre) -> None:
    permit = {"supervisor": "eve", "per_day": 5, "until": centre.at() + 3600}
    centre.do(HERE, lambda desk, now: desk.permit("ann", "chat", permit, now))

    def may() -> bool:
        return bool(centre.do(HERE, lambda desk, _now: desk.may_take(desk.agents["ann"], "chat")))

    assert may()
    centre.do(THERE, lambda desk, now: desk.set_agent_state("eve", "offline", now))
    assert not may()


def test_training_is_heeded_where_the_agent_is_and_follows_who_moves_meanwhile(centre: Centre) -> None:
    def word(agent: str, kind: str, sequence: int, **more: Any) -> Event:
        return Event(f"training.{kind}.v1", agent, {"person": agent, "channel": "chat", **more}, centre.at(), sequence)

    def channels(shard: int, agent: str) -> set[str]:
        return set(centre.ask(shard, lambda desk, _now: desk.profile_of(desk.agent(agent)).channels))

    centre.hear(word("eve", "certified", 1, certified_at=centre.at(), expires_at=None))
    assert channels(THERE, "eve") == {"voice", "chat"}
    centre.do(THERE, lambda desk, _now: desk.put_agent("eve", channels=["voice"], pool="default"))
    centre.catch_up()
    with centre.units() as work:  # as if it had been sent while she was still there
        training_store.note(work.connection, [word("eve", "certification_lapsed", 2, at=centre.at(), reason="expired")])
        shard_store.post(work.connection, [(THERE, "training", "eve", {"channels": ["chat"]})])
    centre.do(THERE, lambda _desk, _now: None)
    assert channels(HERE, "eve") == {"voice"}


def test_scores_of_quality_are_known_where_the_agent_is_and_go_with_them(centre: Centre) -> None:
    def known(shard: int) -> dict[str, Any]:
        scores = centre.ask(shard, lambda desk, _now: dict(desk.scores.get("eve", {})))
        return {name: score.best for name, score in scores.items()}

    data = {"agent": "eve", "queue": None, "channel": None, "scorecard": "small", "kind": "human", "high": 0.8, "until": centre.at()}
    centre.hear(Event("qa.agent_scored.v1", "eve", data, centre.at(), 1))
    assert known(THERE) == {"small": 0.8}
    centre.do(THERE, lambda desk, _now: desk.put_agent("eve", channels=["voice"], pool="default"))
    centre.catch_up()
    assert known(HERE) == {"small": 0.8}


def test_agents_of_all_shards_are_lost_sight_of_and_seen_again(centre: Centre) -> None:
    told = {"source": "pbx1", "agent": "eve", "address": None, "state": "available", "reason": None, "since": centre.at(), "queue": None}
    centre.hear(Event("gateway.agent_state_reported.v1", "eve", told, centre.at(), 1))
    centre.hear(Event("gateway.source_restarted.v1", "pbx1", {"source": "pbx1", "at": centre.at()}, centre.at(), 1))
    assert centre.agent(THERE, "eve") == "unknown"
    centre.hear(Event("gateway.agent_state_reported.v1", "eve", told, centre.at(), 2))
    assert centre.agent(THERE, "eve") == "available"


def test_a_transfer_to_somebody_of_another_shard_is_known_to_be_possible(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    assert isinstance(centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there", agent="nobody")), Exception)
    centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there", agent="eve"))
    assert centre.accept(THERE, "eve") == contact


# ---- commands


def core(centre: Centre, shard: int) -> RoutingCore:
    context = SimpleNamespace(
        units=centre.units, database=centre.units.database, settings=Settings(), shard=shard, shards=2,
        relay=SimpleNamespace(wake=lambda: None), pass_on=lambda *_: None, on_news=None, name=f"core{next(NAMES)}",
    )  # fmt: skip
    made = RoutingCore(context)  # type: ignore[arg-type]
    made.close()  # its metrics
    made.desk, made.shard = centre.desks[shard], centre.desks[shard].shard
    made.commands = SimpleNamespace(submit=lambda command: made.desk.execute([command])[0])  # type: ignore[assignment]
    return made


NAMES = itertools.count()


def test_a_command_for_what_another_shard_has_is_passed_on(centre: Centre) -> None:
    contact = centre.arrive("there")
    here, there = core(centre, HERE), core(centre, THERE)
    for named in ({"agent": "eve"}, {"contact": contact}, {"queue": "there"}, {"agent": "new", "pool": "east"}):
        with pytest.raises(Elsewhere) as raised:
            here.look(lambda _desk, _now: None, **named)
        assert raised.value.shard == THERE
        assert there.look(lambda _desk, _now: "asked", **named) == "asked"
    for named in ({"agent": "nobody"}, {"contact": "not an id"}, {"queue": "none"}, {"agent": "new", "pool": "default"}):
        assert here.look(lambda _desk, _now: "asked", **named) == "asked"


def test_what_has_just_come_is_found(centre: Centre) -> None:
    contact = centre.arrive("here")
    centre.accept(HERE, "ann")
    centre.do(HERE, lambda desk, now: desk.transfer(contact, now, queue="there"))
    there = core(centre, THERE)
    assert there.look(lambda desk, _now: desk.contacts[contact].queue, contact=contact) == "there"


# ---- which process has which


@pytest.mark.parametrize(("shards", "processes", "share"), [(1, 1, 1), (2, 1, 2), (2, 2, 1), (2, 3, 1), (5, 2, 3), (4, 3, 2), (3, 0, 3)])
def test_a_fair_share(shards: int, processes: int, share: int) -> None:
    assert fair_share(shards, processes) == share


class Process(Holder):
    """A holder without doors, whose leases are a dictionary that all share."""

    def __init__(self, leases: dict[int, Process], present: list[Process], shards: int) -> None:
        ours = SimpleNamespace(name=f"process{next(NAMES)}", database=None, parts={}, phase="starting")
        super().__init__(object, ours, shards, {})  # type: ignore[arg-type]
        self._leases, self._all = leases, present
        self.kept: list[int] = []
        whole = SimpleNamespace(sqlite=True, url=SimpleNamespace(database="of-no-restore"))
        self.leases = [
            SimpleNamespace(  # type: ignore[misc]
                acquire=lambda shard=shard: self._acquire(shard), keep=lambda shard=shard: self.kept.append(shard), database=whole
            )
            for shard in range(shards)
        ]
        self.presence = SimpleNamespace(count=lambda: len(present))  # type: ignore[assignment]

    def _acquire(self, shard: int) -> bool:
        return self._leases.setdefault(shard, self) is self

    def take(self, shard: int) -> None:
        self.held[shard] = None  # type: ignore[assignment]

    def give_back(self, shard: int) -> None:
        del self.held[shard], self._leases[shard]


def test_processes_share_the_shards_and_take_over_those_of_the_dead() -> None:
    leases: dict[int, Process] = {}
    present: list[Process] = []

    def come() -> Process:
        process = Process(leases, present, 4)
        present.append(process)
        return process

    def look() -> list[list[int]]:
        for process in present * 4:
            process.step()
        return [sorted(process.held) for process in present]

    one = come()
    assert look() == [[0, 1, 2, 3]]
    come()
    assert look() == [[0, 1], [2, 3]]
    present.remove(one)
    for shard in one.held:
        del leases[shard]
    assert look() == [[0, 1, 2, 3]]
    assert present[0].ours.phase == "started"


def test_shards_that_are_given_back_last_are_kept_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may take as long as its longest request, and whoever shows nothing for so long is taken for frozen."""
    process = Process({}, [], 3)
    process.presence.leave = lambda: None  # type: ignore[method-assign]
    finish, kept = process.give_back, []

    def give_back(shard: int) -> None:
        process.kept.clear()
        for _ in range(100):
            if not process.kept:
                eventlet.sleep()
        kept.append(set(process.kept))
        finish(shard)

    monkeypatch.setattr(process, "give_back", give_back)
    monkeypatch.setattr(shards.time, "sleep", lambda _seconds: eventlet.sleep())
    process.start()
    while len(process.held) < 3:
        eventlet.sleep()
    process.stop()
    assert (kept, process.held) == ([{0, 1, 2}] * 3, {})
    process.kept.clear()
    eventlet.sleep()
    assert process.kept == []


@pytest.mark.parametrize("single_active", [True, False])
def test_a_lease_that_cannot_be_watched_ends_the_process(monkeypatch: pytest.MonkeyPatch, single_active: bool) -> None:
    """Who goes on unwatched would not notice that another does its work."""

    class Gone(BaseException):
        pass

    def fail() -> bool:
        raise ValueError

    def leave(code: int) -> None:
        raise Gone(code)

    monkeypatch.setattr(runner.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(runner.os, "_exit", leave)
    with pytest.raises(Gone, match="1"):
        runner._watch_leases([(SimpleNamespace(name="im", lease=SimpleNamespace(acquire=fail, keep=fail)), single_active)])  # type: ignore[list-item]
