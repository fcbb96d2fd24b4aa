"""The event stream: who listens to what, from where on, and what of it they may see.

One reader for each process follows the log and hands each event to those who asked for it. Who comes back for what it missed is served
from the last events, kept ready in memory, or from the log before those, until it has caught up; then it joins the others, with nothing
lost and nothing twice in between. The wallboard's figures (topic `live`) go the same way: the newest take the place of those before.
"""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, Protocol
from urllib.parse import unquote

import orjson
import structlog
from sqlalchemy import ColumnElement, Connection, or_

from services.gateway import stream_log
from services.gateway.metrics import STREAM_CUT_OFF, STREAM_DELIVERED, WAITING_REQUESTS
from services.gateway.scopes import Scopes, acts_alone, is_limited, leads, sees_own_rooms, within
from services.gateway.stream_log import Entry, Extent, stream_event
from shared import clock, contracts
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.errors import AnswerlineError, Invalid, Unavailable
from shared.http.endpoint import Principal, Scope
from shared.http.wsgi import Request
from shared.runtime.fanout import Fanout, Listener

log = structlog.get_logger()

LIVE = "live"
SURVEY_ANSWERED = "gateway.survey_answered.v1"
PERSON_CHANGED = "gateway.person_changed.v1"
MOST_LISTENERS = 5_000
MOST_TOPICS = 100
LONGEST_TOPIC = 240
HEARTBEAT_SECONDS = 15.0
RETRY_MILLISECONDS = 1_000

SLICE = 200
"""Events read at once."""

KEPT_EVENTS, KEPT_BYTES = 1_024, 4_000_000
"""Of the last events, kept ready for those who come back."""

WINDOW = 2_000
"""Positions looked through at once for those who come back for older ones."""

CATCH_UP = 50
READERS = 4
"""Who catch up read so many events at once, and so many at a time."""

FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.02, 0.25
IDLE_SECONDS = 0.5
TURN_SECONDS = 0.005

ASK_ANYWAY_SECONDS = 2.0

TOPICS = (
    f"{LIVE} (the wallboard's figures), event types (routing.offer_made, routing.*, *), queue:NAME, agent:ID, contact:ID, person:ID; "
    "several with commas between"
)


# ---- what is asked for


@dataclass(frozen=True, slots=True)
class Topics:
    """An event is wanted when any of these names it."""

    live: bool = False
    types: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    contacts: frozenset[str] = frozenset()
    people: frozenset[str] = frozenset()

    @property
    def events(self) -> bool:
        return bool(self.types or self.queues or self.agents or self.contacts or self.people)

    def wants(self, entry: Entry) -> bool:
        named = entry.type in self.types or entry.queue in self.queues or entry.agent in self.agents or entry.contact in self.contacts
        return named or not self.people.isdisjoint(entry.people or ())

    def condition(self) -> ColumnElement[bool]:
        """The same, of the rows of the log."""
        table = stream_event.c
        pairs = ((table.type, self.types), (table.queue, self.queues), (table.agent, self.agents), (table.contact, self.contacts))
        people = (stream_log.concerns(person) for person in sorted(self.people))
        return or_(*(column.in_(sorted(names)) for column, names in pairs if names), *people)


def parse(text: str) -> Topics:
    """What `topics` asks for. Raises Invalid."""
    told = [unquote(topic.strip()) for topic in text.split(",")]
    if len(told) > MOST_TOPICS or max(map(len, told)) > LONGEST_TOPIC:
        raise Invalid(f"at most {MOST_TOPICS} topics of at most {LONGEST_TOPIC} characters each")
    named: dict[str, set[str]] = {"queue": set(), "agent": set(), "contact": set(), "person": set()}
    types: set[str] = set()
    unknown = []
    for topic in told:
        kind, colon, name = topic.partition(":")
        if colon and name and kind in named:
            named[kind].add(name)
        elif found := types_of(topic):
            types |= found
        elif topic != LIVE:
            unknown.append(topic)
    if unknown:
        raise Invalid(f"unknown topic: {', '.join(unknown)}; there are {TOPICS}", types=sorted(contracts.SCHEMAS))
    return Topics(LIVE in told, frozenset(types), *(frozenset(named[kind]) for kind in named))


def types_of(pattern: str) -> set[str]:
    """The types of event that a name stands for, with or without its version; `*` stands for anything within."""
    return {name for name in contracts.SCHEMAS if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)}


# ---- frames


def frame(name: str, data: bytes, position: int | None = None) -> bytes:
    number = b"" if position is None else b"id: %d\n" % position
    return b"%sevent: %s\ndata: %s\n\n" % (number, name.encode(), data)


def mark(position: int) -> bytes:
    """Raises no event: it tells a client that all up to here was told, so that it need not ask for that again."""
    return b"id: %d\n\n" % position


def gap(held: Extent) -> bytes:
    """What was between is not there any more; it goes on with what came at `since` or later."""
    since = clock.to_text(clock.now() if held.since is None else held.since)
    return frame("gap", orjson.dumps({"since": since}), held.start)


OPENING = b"retry: %d\n\n" % RETRY_MILLISECONDS
HEARTBEAT = b": still here\n\n"


# ---- listeners


@dataclass(eq=False, slots=True)
class Subscriber:
    """A listener who has caught up, up to `position`. One who must not see all has `unchecked` events, looked at one after the other."""

    listener: Listener
    topics: Topics
    principal: Principal
    position: int
    limited: bool
    unchecked: deque[tuple[Entry, bytes]] = field(default_factory=deque)
    checking: bool = False


class Board(Protocol):
    """Counts the news from routing."""

    changes: int


class Stream:
    """The stream of this process."""

    def __init__(self, units: UnitOfWork, scopes: Scopes, board: Board) -> None:
        self.units = units
        self.scopes = scopes
        self.fanout = Fanout(self._count_cut)
        self.live = Live(scopes, board, self.fanout)
        self.position = 0
        self.listeners = 0
        self._present: Counter[str] = Counter()
        self._kept: deque[tuple[Entry, bytes]] = deque()
        self._kept_bytes = 0
        self._kept_after = 0
        self._index: dict[str, defaultdict[str, set[Subscriber]]] = {
            name: defaultdict(set) for name in ("types", "queues", "agents", "contacts", "people")
        }
        self._opening = threading.Lock()
        self._readers = threading.Semaphore(READERS)
        self._news = threading.Event()
        self._pause = FIRST_LOOK_SECONDS

    # Writing

    def write(self, work: Work, events: Sequence[Event]) -> None:
        """Keep what was heard, and tell it once that is sure."""
        stream_log.append(work, events)
        work.afterwards(lambda committed: self.wake() if committed else None)

    def wake(self) -> None:
        """There is, or in a moment will be, something new in the log."""
        self._pause = FIRST_LOOK_SECONDS
        self._news.set()

    # Following the log

    def step(self) -> None:
        """Tell what is new in the log, or wait for it for a while."""
        if not self.listeners:
            self._news.wait(IDLE_SECONDS)
            self._news.clear()
            return
        self._news.clear()
        with self.units.database.reading() as connection:
            entries = stream_log.after(connection, self.position, None, SLICE)
        self._tell(entries)
        if len(entries) == SLICE:
            time.sleep(0)
            return
        if entries:
            time.sleep(FIRST_LOOK_SECONDS)  # what comes meanwhile comes together
            return
        self._news.wait(self._pause)
        self._pause = min(2 * self._pause, LAST_LOOK_SECONDS)

    def _tell(self, entries: Iterable[Entry]) -> None:
        began = clock.monotonic()
        for entry in entries:
            if entry.position <= self.position:
                continue  # the log was opened anew meanwhile
            encoded = frame(entry.type, entry.body.encode(), entry.position)
            self.position = entry.position
            self._keep(entry, encoded)
            interested = self._interested(entry)
            for subscriber in interested:
                self._give(subscriber, entry, encoded)
            STREAM_DELIVERED.inc(len(interested))
            if clock.monotonic() - began > TURN_SECONDS:
                time.sleep(0)
                began = clock.monotonic()
        self.fanout.settle()

    def _keep(self, entry: Entry, encoded: bytes) -> None:
        self._kept.append((entry, encoded))
        self._kept_bytes += len(encoded)
        while len(self._kept) > KEPT_EVENTS or self._kept_bytes > KEPT_BYTES:
            old, dropped = self._kept.popleft()
            self._kept_after = old.position
            self._kept_bytes -= len(dropped)

    def _interested(self, entry: Entry) -> set[Subscriber]:
        names = [("types", entry.type), ("queues", entry.queue), ("agents", entry.agent), ("contacts", entry.contact)]
        names += [("people", person) for person in entry.people or ()]
        found = [self._index[kind][name] for kind, name in names if name is not None and name in self._index[kind]]
        return set().union(*found)

    def _give(self, subscriber: Subscriber, entry: Entry, encoded: bytes) -> None:
        if entry.position <= subscriber.position:
            return
        subscriber.position = entry.position
        if not subscriber.limited:
            self.fanout.put(subscriber.listener, encoded)
            return
        subscriber.unchecked.append((entry, encoded))
        if not subscriber.checking:
            subscriber.checking = True
            self.fanout.spawn(self._check, subscriber)

    def _check(self, subscriber: Subscriber) -> None:
        """Hand on what this one may see. That may have to be asked elsewhere, and the others do not wait for it."""
        try:
            while subscriber.unchecked and not subscriber.listener.over:
                entry, encoded = subscriber.unchecked[0]
                if self.sees(subscriber.principal, entry):
                    self.fanout.put(subscriber.listener, encoded)
                subscriber.unchecked.popleft()
        except Unavailable:
            self.fanout.cut(subscriber.listener)  # it comes back for the rest
        finally:
            subscriber.checking = False

    def sees(self, principal: Principal, entry: Entry) -> bool:
        if entry.type == SURVEY_ANSWERED and principal.person:
            return False  # a person asks qa, which notes who has looked: they evaluate that contact no more
        if entry.people is not None and not entry.people and not leads(principal):
            return False
        if entry.people is not None and sees_own_rooms(principal):
            return principal.person in entry.people
        if entry.type == PERSON_CHANGED and not acts_alone(principal):  # they need not be an agent, of whom routing says where they belong
            told = orjson.loads(entry.body)["data"]
            return within(principal.scope, told["site"], told["team"])
        return self.scopes.sees(principal, queue=entry.queue or "", agent=entry.agent or "")

    # Listening

    def place(self, after: int) -> tuple[int, Extent | None]:
        """Where to go on for one who was told all up to `after`, and what the log still holds where that is not all that is missing."""
        with self.units.database.reading() as connection:
            held = stream_log.extent(connection)
        if held.start <= after <= held.end:
            return after, None
        return held.start, held

    def require_room(self) -> None:
        """Raises Unavailable where this process serves as many listeners as it can."""
        if self.listeners >= MOST_LISTENERS:
            raise Unavailable(f"{MOST_LISTENERS} listen here already, which is as many as one process serves")

    def listen(
        self, request: Request, principal: Principal, topics: Topics, after: int | None, held: Extent | None, still: Callable[[], bool]
    ) -> Iterator[bytes]:
        """All that one client is sent, until it goes. `still`: whether it may go on listening."""
        listener = Listener(request)
        with self._attended_by(principal), WAITING_REQUESTS.labels("stream").track_inprogress():
            if not topics.events:
                yield OPENING
                self._attend(listener, None, principal, topics, still)
                return
            with self._open():
                position = self.position if after is None else after
                yield OPENING + mark(position) + (gap(held) if held else b"")
                position = yield from self._catch_up(position, topics, principal)
                subscriber = Subscriber(listener, topics, principal, position, _is_checked(principal))
                self._attend(listener, subscriber, principal, topics, still)

    def people(self) -> list[str]:
        """Who listens here."""
        return sorted(self._present)

    @contextmanager
    def _attended_by(self, principal: Principal) -> Iterator[None]:
        if not principal.person:
            yield
            return
        self._present[principal.person] += 1
        try:
            yield
        finally:
            self._present[principal.person] -= 1
            if not self._present[principal.person]:
                del self._present[principal.person]

    @contextmanager
    def _open(self) -> Iterator[None]:
        """The log is followed while anybody listens. The first finds its end, and the last events ready in memory."""
        with self._opening:
            if not self.listeners:
                with self.units.database.reading() as connection:
                    self._begin(connection)
            self.listeners += 1
        self.wake()
        try:
            yield
        finally:
            self.listeners -= 1

    def _begin(self, connection: Connection) -> None:
        end = stream_log.newest(connection)
        start = max(end - KEPT_EVENTS, 0)
        if not start <= self.position <= end:
            self._kept.clear()
            self._kept_bytes, self._kept_after, self.position = 0, start, start
        for entry in stream_log.between(connection, self.position, end, KEPT_EVENTS):
            self._keep(entry, frame(entry.type, entry.body.encode(), entry.position))
        self.position = end

    def _catch_up(self, position: int, topics: Topics, principal: Principal) -> Generator[bytes, None, int]:
        """What the log holds of the time before that of which we have everything in memory; returns up to where that was."""
        limited = _is_checked(principal)
        while position < self._kept_after:
            end = min(position + WINDOW, self._kept_after)
            with self._readers, self.units.database.reading() as connection:
                entries = stream_log.between(connection, position, end, CATCH_UP, topics.condition())
            position = entries[-1].position if len(entries) == CATCH_UP else end
            seen = [entry for entry in entries if not limited or self.sees(principal, entry)]
            if seen:
                yield b"".join(frame(entry.type, entry.body.encode(), entry.position) for entry in seen)
        return position

    def _attend(
        self, listener: Listener, subscriber: Subscriber | None, principal: Principal, topics: Topics, still: Callable[[], bool]
    ) -> None:
        """Returns when the client has gone, was cut off, or may not listen any more."""
        try:
            if topics.live:
                self.live.join(listener, principal)
            if subscriber:
                self._join(subscriber)
            while not listener.wait(HEARTBEAT_SECONDS) and still():
                if listener.idle and clock.monotonic() - listener.sent_at > HEARTBEAT_SECONDS / 2:
                    self.fanout.put(listener, self._heartbeat(subscriber))
        finally:
            if topics.live:
                self.live.leave(listener)
            if subscriber:
                self._leave(subscriber)
            self.fanout.forget(listener)
            if not listener.idle:
                listener.abort()

    def _heartbeat(self, subscriber: Subscriber | None) -> bytes:
        told_all = subscriber is not None and not subscriber.unchecked
        return mark(max(self.position, subscriber.position)) if subscriber and told_all else HEARTBEAT

    def _join(self, subscriber: Subscriber) -> None:
        """Give what is ready in memory and not yet told, and from now on what comes. Nothing can come in between."""
        first = bisect_right(self._kept, subscriber.position, key=lambda kept: kept[0].position)
        for entry, encoded in islice(self._kept, first, None):
            if subscriber.topics.wants(entry):
                self._give(subscriber, entry, encoded)
        for kind, index in self._index.items():
            for name in getattr(subscriber.topics, kind):
                index[name].add(subscriber)

    def _leave(self, subscriber: Subscriber) -> None:
        for kind, index in self._index.items():
            for name in getattr(subscriber.topics, kind):
                index[name].discard(subscriber)
                if not index[name]:
                    del index[name]

    def _count_cut(self) -> None:
        STREAM_CUT_OFF.inc()


def _is_checked(principal: Principal) -> bool:
    """Whether each event has to be looked at before this one may have it."""
    return is_limited(principal) or not leads(principal) or bool(principal.person)


# ---- the wallboard's figures


View = tuple[Scope, str, frozenset[str]] | None
"""Whose eyes the figures are for; None: those of all who see everything."""


class Live:
    """Asks routing when there was news, once for all who watch, and tells them no oftener than `step` is called.

    Who is busy reading misses what was in between: each telling has all the figures.
    """

    def __init__(self, scopes: Scopes, board: Board, fanout: Fanout) -> None:
        self.scopes = scopes
        self.board = board
        self.fanout = fanout
        self._watchers: dict[Listener, Principal] = {}
        self._new: set[Listener] = set()
        self._told: tuple[str, dict[str, Any]] | None = None
        self._asked_at = -math.inf
        self._seen: int | None = None

    def join(self, listener: Listener, principal: Principal) -> None:
        self._watchers[listener] = principal
        self._new.add(listener)

    def leave(self, listener: Listener) -> None:
        self._watchers.pop(listener, None)
        self._new.discard(listener)

    def step(self, figures: Callable[[], dict[str, Any]]) -> None:
        """Tell what has changed, and those who came since the last time what holds."""
        if not self._watchers:
            self._told, self._asked_at = None, -math.inf
            return
        changed = self._is_due() and self._ask(figures)
        listeners = list(self._watchers if changed else self._new)
        self._new.clear()
        frames: dict[View, bytes] = {}
        for listener in listeners:
            principal = self._watchers.get(listener)
            if principal is None:
                continue
            view = (principal.scope, principal.person, principal.roles) if is_limited(principal) else None
            if view not in frames:
                frames[view] = self._frame(principal)
            self.fanout.put_latest(listener, frames[view])

    def _is_due(self) -> bool:
        """After a failure, routing is not asked at every news."""
        failing = self._told is not None and self._told[0] == "unavailable"
        news = self.board.changes != self._seen and not failing
        return news or clock.monotonic() - self._asked_at >= ASK_ANYWAY_SECONDS

    def _ask(self, figures: Callable[[], dict[str, Any]]) -> bool:
        """Whether the answer is another than before."""
        self._seen, self._asked_at, before = self.board.changes, clock.monotonic(), self._told
        try:
            self._told = "figures", figures()
        except AnswerlineError as error:
            self._told = "unavailable", {"detail": error.detail}
        except Exception as error:
            log.exception("the live figures failed", error=type(error).__name__)
            self._told = "unavailable", {"detail": "the figures failed here; the log says how"}
        return self._told != before

    def _frame(self, principal: Principal) -> bytes:
        assert self._told
        kind, told = self._told
        if kind == "figures":
            try:
                told = self.scopes.live(principal, told)
            except Unavailable as error:
                kind, told = "unavailable", {"detail": error.detail}
        return frame(kind, orjson.dumps({"now": clock.now(), **told}))
