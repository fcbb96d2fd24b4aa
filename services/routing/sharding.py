"""What a live desk has to do with the other shards of routing: whose a pool is, what comes from them in the mail and what goes to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import structlog
from sqlalchemy import Connection

from services.routing import shard_store
from services.routing.domain.desk import Desk
from services.routing.domain.errors import RoutingError
from services.routing.domain.moves import Departure
from services.routing.shard_store import Kind, Letter, Mail
from shared import clock
from shared.bus import inbox
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.config import SettingError
from shared.db.engine import Database, is_outage

log = structlog.get_logger()

SEEK_SECONDS = 60.0
"""After the restart of a telephony system its reports of agents go to all shards for so long: the agent may be lost sight of anywhere."""

LOOK_SECONDS = 10.0
NEWS_SECONDS = 0.5

Row = dict[str, Any]


def check(database: Database, shards: int) -> None:
    """Raises SettingError where a shard that has something would be nobody's."""
    try:
        with database.reading() as connection:
            highest = shard_store.highest_shard(connection)
    except Exception as error:
        if is_outage(error):
            return  # we shall see
        raise
    if highest >= shards:
        raise SettingError(f"ANSWERLINE_ROUTING_SHARDS: it was {highest + 1} or more before and cannot be lowered to {shards}")


class Shard:
    """One of `count` shards; alone, it does nothing."""

    def __init__(self, units: UnitOfWork, number: int = 0, count: int = 1, tell_news: Callable[[int], None] = lambda _shard: None) -> None:
        self.units = units
        self.number = number
        self.count = count
        self.tell_news = tell_news
        self.others = tuple(shard for shard in range(count) if shard != number)
        self.pools: dict[str, int] = {}
        self.has_news = False
        self._told: dict[str, str] = {}
        self._moved: dict[tuple[str, str], int] = {}
        self._faulty: dict[int, str] = {}
        self._careful = False
        self._seeks_until = 0.0
        self._missed_at, self._misses = 0.0, False
        self._look_at = 0.0

    # What is whose

    def open(self, connection: Connection, desk: Desk) -> None:
        """The desk has just been read from the database."""
        if not self.others:
            return
        self.pools = shard_store.assign_pools(connection, shard_store.named_pools(connection), self.count)
        self.has_news, self._moved = True, {}
        self._told = {agent.id: _seen(agent.presence) for agent in desk.agents.values()}
        desk.is_ours = self.is_ours
        desk.colleagues = shard_store.colleagues(connection, self.number)
        at_work = {contact for agent in desk.agents.values() for contact in agent.work}
        for row in shard_store.contact_rows(connection, at_work - desk.contacts.keys()):
            desk.keep_shadow(row)
        desk.look_for_strays()

    def is_ours(self, pool: str) -> bool:
        return self.pools.get(pool, self.number) == self.number

    def shard_of_pool(self, connection: Connection, pool: str) -> int:
        if pool not in self.pools:
            self.pools = shard_store.assign_pools(connection, [pool], self.count)
        return self.pools[pool]

    def of(self, connection: Connection, *, agent: str = "", contact: str = "", queue: str = "", pool: str = "") -> int | None:
        """The shard that has what is named: an agent, a contact, a queue, or else a pool. None: nobody has it."""
        of_pool = self.shard_of_pool(connection, pool) if pool else None
        shard = None
        if agent:
            shard = shard_store.shard_of_agent(connection, agent)
        elif contact:
            shard = shard_store.shards_of_contacts(connection, [contact]).get(contact)
        elif queue:
            known = shard_store.pools_of_queues(connection, [queue]).get(queue)
            shard = None if known is None else self.shard_of_pool(connection, known)
        return of_pool if shard is None else shard

    def divide(self, connection: Connection, events: Sequence[Event]) -> tuple[list[Event], dict[int, list[Event]]]:
        """Events about routed contacts: ours, and those of each other shard. A contact stays with the shard that has had it, whatever queue
        it comes to, and moves on from there: so there is always one that knows."""
        ours: list[Event] = []
        theirs: dict[int, list[Event]] = {}
        if not self.others:
            return list(events), theirs
        holders = shard_store.shards_of_contacts(connection, (event.data["contact"] for event in events))
        pools = shard_store.pools_of_queues(connection, (event.data["leg"]["queue"] for event in events))
        for event in events:
            shard = holders.get(event.data["contact"])
            if shard is None:
                shard = self.shard_of_pool(connection, pools.get(event.data["leg"]["queue"], shard_store.DEFAULT_POOL))
            (ours if shard == self.number else theirs.setdefault(shard, [])).append(event)
        return ours, theirs

    # What comes

    def take_mail(self, work: Work, desk: Desk, apply: Callable[[list[Mail]], None]) -> None:
        """At the beginning of a turn: what others have decided holds for whatever is asked now. Events that follow one another are applied
        together; when that fails the turn is lost, and in the next each is on its own, until the culprit is known and refused."""
        if not self.others:
            return
        mails = shard_store.take_mail(work.connection, self.number)
        self.has_news = len(mails) == shard_store.MOST_MAIL
        for run in _runs(self._follow(work, desk, mails), together=not self._careful):
            if cause := self._faulty.pop(run[0].seq, ""):
                self._refuse(work, run[0], cause)
                continue
            try:
                apply(run)
            except Exception as fault:
                if isinstance(fault, RoutingError) and len(run) == 1:  # it changed nothing
                    self._refuse(work, run[0], str(fault))
                    continue
                if not is_outage(fault):
                    self._careful = True
                    if len(run) == 1:
                        self._faulty[run[0].seq] = f"{type(fault).__name__}: {fault}"[:500]
                raise
        self._careful = bool(self._faulty)

    def _follow(self, work: Work, desk: Desk, mails: Sequence[Mail]) -> list[Mail]:
        """Without the events about contacts that have moved on since: these follow them."""
        unknown = {mail.subject for mail in mails if mail.kind == "event" and not desk.holds(mail.subject)}
        if not unknown:
            return list(mails)
        coming = {mail.subject for mail in mails if mail.kind == "contact"}
        holders = shard_store.shards_of_contacts(work.connection, unknown - coming)
        elsewhere = {contact: shard for contact, shard in holders.items() if shard != self.number}
        moved = [mail for mail in mails if mail.kind == "event" and mail.subject in elsewhere]
        self.post(work, [(elsewhere[mail.subject], mail.kind, mail.subject, mail.body) for mail in moved])
        return [mail for mail in mails if mail not in moved] if moved else list(mails)

    def _refuse(self, work: Work, mail: Mail, cause: str) -> None:
        log.error("mail refused", kind=mail.kind, subject=mail.subject, shard=self.number, cause=cause)
        if mail.kind == "event":
            inbox.take_back(work, self.units.tables, event_of(mail.body), cause)

    # What goes

    def post(self, work: Work, letters: Sequence[Letter]) -> None:
        """Mail for other shards, in this transaction; once it is committed they are told to look."""
        if not letters:
            return
        shard_store.post(work.connection, letters)

        def tell(committed: bool) -> None:
            for shard in {shard for shard, *_ in letters} if committed else ():
                self.tell_news(shard)

        work.afterwards(tell)

    def to_all(self, kind: Kind, subject: str, body: Mapping[str, Any]) -> list[Letter]:
        return [(shard, kind, subject, body) for shard in self.others]

    def tell_all(self, work: Work, kind: Kind, body: Mapping[str, Any], subject: str = "") -> None:
        self.post(work, self.to_all(kind, subject, body))

    def forward(self, work: Work, events: Mapping[int, Sequence[Event]]) -> None:
        self.post(work, [(shard, "event", one.data["contact"], body_of(one)) for shard, theirs in events.items() for one in theirs])

    def pass_reports(self, work: Work, restarts: Mapping[str, Iterable[str]], reported: Sequence[Event]) -> None:
        """Agents of other shards are lost sight of, and seen again, too. `restarts`: source -> everybody it has told of."""
        if not self.others:
            return
        now = clock.now()
        for source, names in restarts.items():
            self._seeks_until = now + SEEK_SECONDS
            self.tell_all(work, "restart", {"names": sorted(names)}, source)
        if reported and (now < self._seeks_until or self._misses_colleagues(work.connection)):
            told = [{name: event.data.get(name) or "" for name in ("agent", "address", "state")} for event in reported]
            self.post(work, [letter for one in told for letter in self.to_all("report", one["agent"], one)])

    def _misses_colleagues(self, connection: Connection) -> bool:
        if clock.now() > self._missed_at + LOOK_SECONDS:
            self._missed_at, self._misses = clock.now(), "unknown" in shard_store.colleagues(connection, self.number).values()
        return self._misses

    def let_go(self, connection: Connection, desk: Desk) -> list[Departure]:
        """Whoever belongs to another shard and is free to go leaves the desk."""
        departures = desk.let_go() if self.others else []
        self._moved = {(gone.table, gone.id): self.shard_of_pool(connection, gone.pool) for gone in departures}
        return departures

    def mark(self, work: Work, agents: Sequence[Row], contacts: Sequence[Row], queues: Sequence[Row]) -> None:
        """Rows about to be written say whose they are; what all must know is told."""
        for table, rows in (("agents", agents), ("contacts", contacts)):
            for row in rows:
                row["shard"] = self._moved.get((table, row["id"]), self.number)
        if not self.others:
            return
        letters = [letter for row in queues for letter in self.to_all("queue", row["name"], row)]
        for row in agents:
            if self._told.get(row["id"]) != (seen := _seen(row["presence"])):
                self._told[row["id"]] = seen
                letters += self.to_all("colleague", row["id"], {"presence": seen})
        self.post(work, letters)

    def see_off(self, work: Work, departures: Sequence[Departure], sequence: int) -> None:
        """After all was written about them with a lower number than `sequence`."""
        kinds: dict[str, Kind] = {"agents": "agent", "contacts": "contact"}
        self.post(work, [(self.pools[gone.pool], kinds[gone.table], gone.id, {"sequence": sequence}) for gone in departures])
        self._moved = {}

    def look(self) -> None:
        """News may have been missed; to be called now and then."""
        if not self.others or clock.monotonic() < self._look_at:
            return
        self._look_at = clock.monotonic() + NEWS_SECONDS
        with self.units.database.reading() as connection:
            self.has_news = self.has_news or shard_store.has_mail(connection, self.number)


def _seen(presence: str) -> str:
    """What the other shards need to know of it."""
    return "available" if presence == "paused" else presence


def _runs(mails: Iterable[Mail], together: bool) -> Iterator[list[Mail]]:
    for kind, run in groupby(mails, key=lambda mail: mail.kind):
        if kind == "event" and together:
            yield list(run)
        else:
            yield from ([mail] for mail in run)


def body_of(event: Event) -> Row:
    return {name: getattr(event, name) for name in Event.__slots__}


def event_of(body: Row) -> Event:
    return Event(**body)
