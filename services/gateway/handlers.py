"""What happens behind the doors: taking in what telephony systems tell, and telling the other services what it means."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import tzinfo
from functools import partial
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import delete, insert, select, true

from services.gateway import customers, recordings, sources, store
from services.gateway.domain import ami, ari, dialplan, freeswitch, queue_log
from services.gateway.domain.agents import AgentReport, agent_reports
from services.gateway.domain.legs import OPEN, Change, Leg, diff, fold
from services.gateway.domain.observation import (
    AGENT_KINDS,
    HOLDS,
    LONGEST_LOCATION,
    RECORDING_KINDS,
    SOURCE_KINDS,
    Ignored,
    Malformed,
    Observation,
)
from services.gateway.sources import Source
from services.gateway.store import LONGEST_NAME, ContactRow
from shared import clock
from shared.bus.envelope import Event
from shared.bus.outbox import UnitOfWork, Work
from shared.db import bulk
from shared.db.engine import is_outage
from shared.errors import NotFound
from shared.ids import is_id, new_id
from shared.observability import trace

log = structlog.get_logger()

TRACE = trace.KEY
"""Beside an observation in the intake: the trace of the request that it came by."""
BATCH = 60
"""Observations correlated in one go: others have their turn between."""
MOST_RINGS = 2000
"""Of a contact with more observations than that, further rings and holds are not kept: each would make the whole contact be worked out anew."""
ARRIVALS = frozenset({"arrived", "entered"})
"""Their caller is the customer; elsewhere it may be an agent."""
RINGS = frozenset({"called", "missed", "cancelled", "waiting", *HOLDS})
MAY_WRITE = frozenset({"api", "events", "taskrouter"})
"""Reporters that tell of matters in writing too."""
AHEAD_SECONDS = 86400.0
SAME_RESTART_SECONDS = 2.0
SILENT_SECONDS = 86400.0
KEEP_SNAPSHOTS = 86400.0
SLICE = 250
"""Lines read and made durable in one go: others have their turn between."""
AMI_CHUNK = 256 * 1024
REASONS_SHOWN = 100

EVENT_OF = {
    "arrived": "gateway.contact_arrived.v1",
    "answered": "gateway.contact_answered.v1",
    "missed": "gateway.offer_missed.v1",
    "abandoned": "gateway.contact_abandoned.v1",
    "transferred": "gateway.contact_transferred.v1",
    "ended": "gateway.contact_ended.v1",
    "corrected": "gateway.contact_corrected.v1",
}


# ---- taking in


@dataclass(frozen=True)
class Answer:
    """What a customer said of a contact, as an event told it: `contact` as the sender names it, `told` what the event says of it, `key` by
    which it is known again. `at`: epoch seconds."""

    number: int
    key: str
    contact: str
    told: Mapping[str, Any]
    at: float
    text: str


@dataclass
class Reading:
    """What one post told: observations, customers' answers, lines passed over, and those that could not be read."""

    observations: list[Observation] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    ignored: int = 0
    rejected: list[tuple[int, str, str]] = field(default_factory=list)
    """(line or message number from 1, reason, text)"""
    customer: str = ""
    """whom the dialplan says that an arrival is of"""
    polls: bool = False
    """whether it says that it will ask whom to dial for an arrival"""

    def read(self, number: int, text: str, interpret: Callable[[], Observation | Answer | Ignored]) -> None:
        try:
            told = interpret()
        except Malformed as fault:
            self.rejected.append((number, str(fault), text))
            return
        if isinstance(told, Ignored):
            self.ignored += 1
        elif isinstance(told, Answer):
            self.answers.append(told)
        elif any(
            name and len(name) > LONGEST_NAME for name in (*told.identifiers, told.queue, told.agent, told.interface, *(told.calls or ()))
        ):
            self.rejected.append((number, f"the name of a call, queue or agent has more than {LONGEST_NAME} characters", text))
        elif told.recording and len(told.recording) > LONGEST_LOCATION:
            self.rejected.append((number, f"where a recording is kept has more than {LONGEST_LOCATION} characters", text))
        else:
            self.observations.append(told)


def read_queue_log(body: bytes) -> Iterator[Reading]:
    """Lines of Asterisk's queue_log, slice by slice."""
    for lines in _slices(_lines(body)):
        reading = Reading()
        for number, raw in lines:
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError:
                reading.rejected.append((number, "the line is not valid UTF-8", raw.decode("utf-8", "backslashreplace")))
                continue
            reading.read(number, line, partial(queue_log.parse, line))
        yield reading


def read_ami(body: bytes, received: float) -> Iterator[Reading]:
    """AMI messages, as the bytes of a session or as JSON lines, slice by slice."""
    times = ami.Times(body, received)
    return _read_ami_json(body, times) if body.lstrip()[:1] == b"{" else _read_ami_bytes(body, times)


def _read_ami_json(body: bytes, times: ami.Times) -> Iterator[Reading]:
    channels = ami.Channels()

    def interpret(line: bytes) -> Observation | Ignored:
        message, noted = ami.read_json(line)
        return channels.interpret(message, noted or times.of(message))

    for lines in _slices(_lines(body)):
        reading = Reading()
        for number, line in lines:
            reading.read(number, line.decode("utf-8", "backslashreplace"), partial(interpret, line))
        yield reading


def _read_ami_bytes(body: bytes, times: ami.Times) -> Iterator[Reading]:
    number, rest, channels = 0, b"", ami.Channels()
    for start in range(0, len(body), AMI_CHUNK):
        reading = Reading()
        try:
            messages, rest = ami.split(rest + body[start : start + AMI_CHUNK])
        except Malformed as fault:
            reading.rejected.append((number + 1, str(fault), body[start : start + 2000].decode("utf-8", "backslashreplace")))
            yield reading
            return
        for message in messages:
            number += 1
            reading.read(number, str(dict(message)), partial(channels.interpret, message, times.of(message)))
        yield reading
    if rest.strip():
        reason = "the last message is not complete: it must end with an empty line (CR LF CR LF); send it whole"
        if not number:
            reason += ". There is no whole message in it: is this an AMI stream? A queue_log goes to /v1/telephony/asterisk/queue-log"
        yield Reading(rejected=[(number + 1, reason, rest.decode("utf-8", "backslashreplace"))])


def read_ari(body: bytes, received: float) -> Iterator[Reading]:
    """ARI events as JSON lines, one object or an array, slice by slice."""
    numbered = enumerate(ari.messages(body), 1)
    while part := list(islice(numbered, SLICE)):
        reading = Reading()
        for number, (text, message) in part:
            reading.read(number, text, partial(ari.interpret, message, received))
        yield reading


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, numbered from 1, without a copy of them all."""
    for number, line in enumerate(io.BytesIO(body), 1):
        if line.strip():
            yield number, line.rstrip(b"\r\n")


def _slices(lines: Iterator[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    while part := list(islice(lines, SLICE)):
        yield part


def read_dialplan(body: bytes, content_type: str, received: float, zone: tzinfo | None = None) -> Reading:
    """One post of the dialplan's CURL(). `zone`: its PBX's, for times without one."""
    reading = Reading()
    text = body.decode("utf-8", "backslashreplace")

    beside: list[Observation] = []

    def interpret() -> Observation:
        fields = dialplan.decode(body, content_type)
        told = dialplan.interpret(fields, received, zone)
        beside.extend(dialplan.recordings(fields, told))
        customer = dialplan.customer(fields)
        reading.customer = customer if len(customer) <= LONGEST_NAME else ""
        reading.polls = told.kind == "arrived" and str(fields.get("polls") or "") == "1"
        return told

    reading.read(1, text, interpret)
    for told in beside if reading.observations else ():
        reading.read(1, text, lambda told=told: told)  # type: ignore[misc]
    return reading


def read_freeswitch_events(body: bytes, received: float) -> Iterator[Reading]:
    """mod_callcenter's events, as JSON lines or as the event socket's plain blocks, slice by slice."""
    if body.lstrip()[:1] == b"{":
        for lines in _slices(_lines(body)):
            reading = Reading()
            for number, line in lines:
                text = line.decode("utf-8", "backslashreplace")
                reading.read(number, text, lambda line=line: freeswitch.interpret(freeswitch.read_json(line), received))  # type: ignore[misc]
            yield reading
        return
    events = enumerate(freeswitch.read_blocks(body), 1)
    while part := list(islice(events, SLICE)):
        reading = Reading()
        for number, message in part:
            reading.read(number, str(dict(message)), partial(freeswitch.interpret, message, received))
        yield reading


def read_freeswitch_cdr(body: bytes, received: float) -> Reading:
    """One call detail record of FreeSWITCH; a record tells several things at once."""
    reading, text = Reading(), body.decode("utf-8", "backslashreplace")
    try:
        told = freeswitch.interpret_cdr(freeswitch.read_cdr(body), received)
    except Malformed as fault:
        reading.rejected.append((1, str(fault), text))
        return reading
    for one in [told] if isinstance(told, Ignored) else told:
        reading.read(1, text, lambda one=one: one)  # type: ignore[misc]
    return reading


@dataclass(frozen=True)
class Arrival:
    """What the door knows of a contact beyond its observation. `wishes`: `customer` (id), `thread`, `wants` (preferred_skills, language,
    region, site) and `facts` (value, tier, …), each where it is known; they travel in every event of the contact."""

    contact: str
    channel: str = "voice"
    required_skills: Mapping[str, int] = field(default_factory=dict)
    wishes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Taken:
    """One post's worth of intake: from one source, through one door."""

    source: str
    door: str
    reading: Reading
    arrival: Arrival | None = None
    trace: str = field(default_factory=trace.current)


@dataclass(frozen=True)
class Receipt:
    """What the poster is told."""

    accepted: int
    duplicate: int
    ignored: int
    rejected: list[dict[str, Any]]
    rejected_total: int = 0
    contact: str | None = None

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(
            self.accepted + other.accepted,
            self.duplicate + other.duplicate,
            self.ignored + other.ignored,
            [*self.rejected, *other.rejected][:REASONS_SHOWN],
            self.rejected_total + other.rejected_total,
            self.contact or other.contact,
        )


def take_in(units: UnitOfWork, posts: Sequence[Taken]) -> list[Receipt]:
    """Make posts durable, all in one transaction. Each receipt counts what was new and what was known."""
    moment = clock.now()
    distinct: dict[tuple[str, str], dict[str, Any]] = {}
    keys_of_post: list[list[tuple[str, str]]] = []
    for post in posts:
        keys = []
        for observation in post.reading.observations:
            key = _key(post.source, observation.key)
            keys.append(key)
            if key not in distinct:
                told = observation.to_dict()
                if post.trace:
                    told[TRACE] = post.trace
                distinct[key] = {"source": key[0], "key": key[1], "observation": told, "received_at": moment, "processed_at": None}
        keys_of_post.append(keys)
        for answer in post.reading.answers:
            key = _key(post.source, answer.key)
            distinct.setdefault(key, {"source": key[0], "key": key[1], "observation": {}, "received_at": moment, "processed_at": moment})
    with units() as work:
        # all keys in one statement, which writes them in their order, and before calls are given to contacts: whoever correlates does it so
        # too, and two who do not would wait for each other for ever
        rows = bulk.insert(work.connection, store.intake, list(distinct.values()), key=("source", "key"), returning=("source", "key"))
        new = {(row.source, row.key) for row in rows}
        contacts = _welcome(work, [(post.source, post.reading.observations[0], post.arrival) for post in posts if post.arrival])
        answered = [_take_answers(work, post, new, moment) for post in posts]
        _keep_refused(work, posts, moment)
    receipts = []
    for post, keys, answers in zip(posts, keys_of_post, answered, strict=True):
        fresh = {key for key in keys if key in new}
        new -= fresh
        contact = contacts.get((post.source, post.reading.observations[0].call or "")) if post.arrival else None
        receipts.append(_receipt(post.reading, len(fresh) + answers, contact))
    return receipts


def _receipt(reading: Reading, accepted: int, contact: str | None) -> Receipt:
    rejected = [{"line": number, "reason": reason} for number, reason, _ in reading.rejected[:REASONS_SHOWN]]
    told = len(reading.observations) + len(reading.answers)
    return Receipt(accepted, told - accepted, reading.ignored, rejected, len(reading.rejected), contact)


Key = tuple[str, str]


def _key(source: str, key: str) -> Key:
    return source, hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _take_answers(work: Work, post: Taken, new: set[Key], moment: float) -> int:
    """Announce what customers said that is new, which it is no longer then; how many they were. What is said of a contact that nobody knows
    is refused, and its key given back."""
    reading, known, taken = post.reading, [], 0
    for answer in reading.answers:
        key = _key(post.source, answer.key)
        try:
            contact = contact_named(work.connection, answer.contact)
        except NotFound as unknown:
            reading.rejected.append((answer.number, str(unknown), answer.text))
            if key in new:
                new.discard(key)
                of = store.intake.c
                work.connection.execute(delete(store.intake).where(of.source == key[0], of.key == key[1]))
            continue
        known.append(answer)
        if key in new:
            new.discard(key)
            taken += 1
            announce_answer(work, new_id(), contact, answer.told, min(answer.at, moment))
    reading.answers = known
    return taken


def announce_answer(work: Work, id: str, contact: str, told: Mapping[str, Any], at: float) -> None:
    """A customer's answer is a fact from now on. `told`: satisfied, resolved, text, survey."""
    names = ("satisfied", "resolved", "text", "survey")
    data = {name: told.get(name) for name in names} | {"contact": contact, "answer": id, "people": [], "at": at}
    work.announce(Event("gateway.survey_answered.v1", id, data, at, 1))


def _keep_refused(work: Work, posts: Iterable[Taken], moment: float) -> None:
    rows = [
        {"source": post.source, "door": post.door, "body": text.replace("\x00", "\\x00"), "reason": reason, "received_at": moment}
        for post in posts
        for _, reason, text in post.reading.rejected
    ]
    bulk.insert(work.connection, store.refused, rows)


def _welcome(work: Work, arrivals: Sequence[tuple[str, Observation, Arrival]]) -> dict[tuple[str, str], str]:
    """Give announced contacts their id at once, so that the poster can ask about them before the rest of us know."""
    if not arrivals:
        return {}
    store.lock_aliases(work.connection, [source for source, _, _ in arrivals])
    ours = {(source, told.call or ""): arrival for source, told, arrival in arrivals}
    aliases = [{"source": source, "alias": call, "contact": arrival.contact} for (source, call), arrival in ours.items()]
    bulk.insert(work.connection, store.call_alias, aliases, key=("source", "alias"))
    known = store.contacts_of(work.connection, ours)
    fresh = [
        ContactRow(arrival.contact, source, arrival.channel, dict(arrival.required_skills), dict(arrival.wishes)).to_row()
        for (source, call), arrival in ours.items()
        if known[source, call] == arrival.contact
    ]
    bulk.insert(work.connection, store.contact, fresh, columns=store.CONTACT_COLUMNS, key=("id",))
    return known


def find_contact(units: UnitOfWork, reference: str) -> str:
    """A contact's id from itself or from `<source>:<call id>`. Raises NotFound."""
    with units.database.reading() as connection:
        return contact_named(connection, reference)


def contact_named(connection: Any, reference: str) -> str:
    """As `find_contact`."""
    source, colon, call = reference.partition(":")
    if colon:
        found = store.contacts_of(connection, [(source, call)]).get((source, call))
    else:
        found = _known_id(connection, reference)
    if found is None:
        raise NotFound(f"no contact {reference}; a contact is named by its id or by <source>:<call id>")
    return found


def _known_id(connection: Any, reference: str) -> str | None:
    if not is_id(reference):
        return None
    row = store.load_contacts(connection, [reference]).get(reference)
    while row and row.merged_into:
        row = store.load_contacts(connection, [row.merged_into]).get(row.merged_into)
    return row.id if row else None


def call_of(units: UnitOfWork, contact: str) -> tuple[str, str]:
    """(source, call id) of a contact: that of its last leg, or while it has none, that under which it was announced. Raises NotFound."""
    query = select(store.call_alias.c.source, store.call_alias.c.alias).where(store.call_alias.c.contact == contact).limit(1)
    with units.database.reading() as connection:
        known = store.load_contacts(connection, [contact]).get(contact)
        calls = [leg["call"] for leg in known.legs if leg["call"]] if known else []
        if known and calls:
            return known.source, calls[-1]
        row = connection.execute(query).first()
    if row is None:
        raise NotFound(f"no contact {contact}")
    return row.source, row.alias


def told_of(units: UnitOfWork, contact: str) -> dict[str, set[str]]:
    """The `queues` and `agents` of a contact, as far as telephony tells."""
    with units.database.reading() as connection:
        known = store.load_contacts(connection, [contact]).get(contact)
    legs = [*known.legs, *known.observations] if known else []
    return {
        "queues": {leg["queue"] for leg in legs if leg.get("queue")},
        "agents": {leg[name] for leg in legs for name in ("agent", "address") if leg.get(name)},
    }


def is_open(units: UnitOfWork, contact: str) -> bool:
    """Whether anybody waits or talks in it, as far as telephony tells. One just announced is open."""
    with units.database.reading() as connection:
        known = store.load_contacts(connection, [contact]).get(contact)
    return known is None or known.is_open


def prune(units: UnitOfWork, before: float) -> bool:
    """Forget a slice of what was posted before then; whether there may be more. A line so old, posted again, still changes nothing in its
    contact."""
    with units() as work:
        store.forget_snapshots(work.connection, clock.now() - KEEP_SNAPSHOTS)
        recordings.forget(work, before)
        more = bulk.forget_oldest(
            work.connection, store.intake.c.seq, lambda row: row.processed_at.is_not(None), lambda row: row.processed_at < before
        )
        return bulk.forget_oldest(work.connection, store.refused.c.seq, lambda _: true(), lambda row: row.received_at < before) or more


def expire(units: UnitOfWork) -> int:
    """Say of the calls that began more than a day ago and of which nothing was heard for a day that they cannot be open any more.
    Matters in writing, and what is announced by API alone, may take longer. Returns of how many."""
    silent_since = clock.now() - SILENT_SECONDS
    with units.database.reading() as connection:
        old = store.open_since(connection, silent_since)
    posts = []
    for contact in old:
        told = [Observation.from_dict(kept) for kept in contact.observations]
        call = next((leg["call"] for leg in reversed(contact.legs) if leg["call"]), None) or next((o.call for o in told if o.call), None)
        last = max((one.at or 0.0 for one in told), default=0.0)
        of_telephony = contact.channel == "voice" and any(one.reporter != "api" for one in told)
        if call and last < silent_since and (of_telephony or any(one.reporter not in MAY_WRITE for one in told)):
            over = Observation("gateway", "expired", f"gateway|expired|{contact.id}|{last!r}", last + SILENT_SECONDS, call=call)
            posts.append(Taken(contact.source, "expiry", Reading([over])))
    if posts:
        take_in(units, posts)
    return len(posts)


# ---- making sense of it


def correlate(units: UnitOfWork, country: str = "", mark: Callable[[str], str] | None = None) -> int:
    """Turn the next pending observations into contacts and agents' states, and announce what changed. Returns how many were worked on.
    `country`: where a caller's number without a country code belongs. `mark` of a number stands for it elsewhere; none: nothing does."""
    with units.database.reading() as connection:
        rows = store.pending(connection, BATCH)
    if rows:
        _correlate(units, rows, country, mark)
    return len(rows)


def _correlate(units: UnitOfWork, rows: Sequence[Any], country: str, mark: Callable[[str], str] | None) -> None:
    """In one transaction; where that fails the batch is halved, until the culprit stands alone and is set aside with the refused."""
    try:
        with units() as work:
            store.mark_processed(work.connection, [row.seq for row in rows], clock.now())
            told: dict[str, list[tuple[Observation, str]]] = {}
            for row in rows:
                told.setdefault(row.source, []).append((Observation.from_dict(row.observation), row.observation.get(TRACE, "")))
            registered = sources.of(work.connection, told)
            for source, observations in sorted(told.items()):
                _Correlation(work, registered[source], country, mark).apply(observations)
    except Exception as error:
        if is_outage(error):
            raise
        if len(rows) > 1:
            middle = len(rows) // 2
            _correlate(units, rows[:middle], country, mark)
            _correlate(units, rows[middle:], country, mark)
            return
        log.error("observation set aside", seq=rows[0].seq, error=type(error).__name__, exc_info=error)
        told_wrong = {"source": rows[0].source, "door": "correlation", "body": str(rows[0].observation), "reason": type(error).__name__}
        with units() as work:
            work.connection.execute(insert(store.refused).values(**told_wrong, received_at=clock.now()))
            store.mark_processed(work.connection, [rows[0].seq], clock.now())


class _Correlation:
    """One source's new observations against what is known of its calls."""

    def __init__(self, work: Work, source: Source, country: str, mark: Callable[[str], str] | None) -> None:
        self.work = work
        self.mark = mark
        self.source = source.name
        self.country = source.country or country
        self.observed = source.mode == "observed"
        self.contacts: dict[str, ContactRow] = {}
        self.touched: set[str] = set()
        self.aliases: dict[tuple[str, str], str] = {}
        self.new_aliases: dict[tuple[str, str], str] = {}
        self.callers: dict[str, str] = {}
        self.latest_snapshot: float | None = None
        """None: not looked up yet"""

    def apply(self, pending: list[tuple[Observation, str]]) -> None:
        """`pending`: each with the trace of the request that it came by."""
        observations = [told for told, _ in pending]
        self._note_restarts([told for told in observations if told.kind in SOURCE_KINDS and told.kind != "snapshot"])
        self._note_snapshots([told for told in observations if told.kind == "snapshot"])
        self._note_agents([told for told in observations if told.kind in AGENT_KINDS])
        of_recordings = [told for told in observations if told.kind in RECORDING_KINDS]
        beside = SOURCE_KINDS | AGENT_KINDS | RECORDING_KINDS
        of_calls = [(told, traceparent) for told, traceparent in pending if told.kind not in beside]
        store.lock_aliases(self.work.connection, [self.source])
        self.aliases = store.contacts_of(self.work.connection, {(self.source, id) for told, _ in of_calls for id in told.identifiers})
        self.contacts |= store.load_contacts(self.work.connection, self.aliases.values())
        for told, traceparent in of_calls:
            contact = self._contact_of(told)
            if traceparent:
                self.work.traces[contact.id] = traceparent  # the last that told something new of it
            if told.kind in RINGS and len(contact.observations) >= MOST_RINGS:
                continue
            contact.observations.append(told.to_dict())
            self.touched.add(contact.id)
            if told.caller and told.kind in ARRIVALS:
                self.callers[contact.id] = told.caller
        self._recognise()
        restarts = store.restarts_of(self.work.connection, self.source)
        for id in sorted(self.touched):
            self._refold(self.contacts[id], restarts)
        store.save_contacts(self.work.connection, [self.contacts[id] for id in self.touched])
        store.save_aliases(self.work.connection, self.new_aliases)
        touched = {id: self.contacts[id] for id in self.touched}
        recordings.note(self.work, self.source, of_recordings, touched, [alias for _, alias in self.new_aliases])

    def _contact_of(self, told: Observation) -> ContactRow:
        """The contact that shares an id with the observation. Where several do, they are one call and become one contact."""
        names = [(self.source, id) for id in told.identifiers]
        found = sorted({self.aliases[name] for name in names if name in self.aliases})
        contact = self._load(found[0]) if found else ContactRow(new_id(), self.source)
        self.contacts[contact.id] = contact
        for other in found[1:]:
            self._merge(self._load(other), contact)
        for name in names:
            if self.aliases.get(name) != contact.id:
                self.aliases[name] = self.new_aliases[name] = contact.id
        return contact

    def _load(self, id: str) -> ContactRow:
        if id not in self.contacts:
            self.contacts[id] = store.load_contacts(self.work.connection, [id]).get(id) or ContactRow(id, self.source)
        return self.contacts[id]

    def _merge(self, other: ContactRow, into: ContactRow) -> None:
        moved = {kept[name] for kept in other.observations for name in ("call", "linked", "member_call") if kept.get(name)}
        into.observations += other.observations
        into.required_skills = {**other.required_skills, **into.required_skills}
        into.wishes = customers.beneath(into.wishes, other.wishes)
        if caller := self.callers.pop(other.id, None):
            self.callers.setdefault(into.id, caller)
        other.observations, other.merged_into = [], into.id
        self.touched |= {other.id, into.id}
        for name in [(self.source, alias) for alias in moved]:
            self.aliases[name] = self.new_aliases[name] = into.id

    def _recognise(self) -> None:
        """Before a contact is first announced: whose it is by its caller's number, and what the directory knows of its customer."""
        fresh = [contact for id in sorted(self.touched) if not (contact := self.contacts[id]).sequence and not contact.merged_into]
        callers = {
            contact.id: self.callers[contact.id] for contact in fresh if "customer" not in contact.wishes and contact.id in self.callers
        }
        owners = customers.owners_of(self.work.connection, callers.values(), self.country) if callers else {}
        for id, caller in callers.items():
            if owner := owners.get(caller):
                self.contacts[id].wishes = {**self.contacts[id].wishes, "customer": owner}
        named = [contact for contact in fresh if contact.wishes.get("customer")]
        known = customers.wishes_of(self.work.connection, [contact.wishes["customer"] for contact in named]) if named else {}
        for contact in named:
            contact.wishes = customers.beneath(contact.wishes, known.get(contact.wishes["customer"], {}))
        if self.mark:
            ringing = {contact.id: self.callers[contact.id] for contact in fresh if contact.id in self.callers}
            refs = customers.refs_of(self.work.connection, ringing.values(), self.country, self.mark) if ringing else {}
            for id, caller in ringing.items():
                if ref := refs.get(caller):
                    facts = {**self.contacts[id].wishes.get("facts", {}), "caller_ref": ref}
                    self.contacts[id].wishes = {**self.contacts[id].wishes, "facts": facts}

    def _refold(self, contact: ContactRow, restarts: Sequence[float]) -> None:
        before = [_leg(stored) for stored in contact.legs]
        last = max((told.get("at") or 0.0 for told in contact.observations), default=0.0)
        believable = max(clock.now(), last) + AHEAD_SECONDS
        told = [Observation.from_dict(kept) for kept in contact.observations]
        restarts = [at for at in restarts if at <= believable]
        after = fold(told, restarts)
        began = [leg.answered_at or leg.arrived_at or 0.0 for leg in after if leg.outcome in OPEN]
        if began and self._latest_snapshot() > min(began):
            shots = store.snapshots_of(self.work.connection, self.source, min(began))
            after = fold(told, restarts, [shot for shot in shots if shot.at <= believable])
        for change in diff(before, after):
            self._announce(contact, change)
        contact.legs = [asdict(leg) for leg in after]
        contact.is_open = any(leg.outcome in OPEN for leg in after)

    def _announce(self, contact: ContactRow, change: Change) -> None:
        contact.sequence += 1
        data = {
            "contact": contact.id,
            "source": self.source,
            "channel": contact.channel,
            "required_skills": contact.required_skills,
            **contact.wishes,
            "leg": published(change.leg),
        }
        if contact.merged_into:
            data["merged_into"] = contact.merged_into
        if self.observed or change.leg.distributed:
            data["observed"] = True
        self.work.announce(Event(EVENT_OF[change.what], contact.id, data, _moment(change), contact.sequence))

    def _note_restarts(self, restarts: Sequence[Observation]) -> None:
        known = store.restarts_of(self.work.connection, self.source) if restarts else []
        any_new = False
        for at in sorted(told.at for told in restarts if told.at is not None):
            if any(abs(at - other) <= SAME_RESTART_SECONDS for other in known):
                continue
            known.append(at)
            self.work.connection.execute(insert(store.source_restart).values(source=self.source, at=at))
            self.work.announce(Event("gateway.source_restarted.v1", self.source, {"source": self.source, "at": at}, at, int(at)))
            any_new = True
        if any_new:
            self.contacts |= store.open_contacts(self.work.connection, self.source)
            self.touched |= set(self.contacts)

    def _note_snapshots(self, told: Sequence[Observation]) -> None:
        """Who is not in them may have ended: all open contacts of which that can be so are looked at anew."""
        snapshots = {one.at: frozenset(one.calls or ()) for one in told if one.at is not None}
        if not snapshots:
            return
        rows = [{"source": self.source, "at": at, "calls": sorted(calls)} for at, calls in snapshots.items()]
        bulk.insert(self.work.connection, store.source_snapshot, rows, key=("source", "at"))
        for contact in store.open_contacts(self.work.connection, self.source).values():
            open_calls = {leg["call"] for leg in contact.legs if leg["outcome"] in OPEN}
            if any(not open_calls <= calls for calls in snapshots.values()):
                self.contacts.setdefault(contact.id, contact)
                self.touched.add(contact.id)

    def _latest_snapshot(self) -> float:
        if self.latest_snapshot is None:
            self.latest_snapshot = store.latest_snapshot(self.work.connection, self.source) or 0.0
        return self.latest_snapshot

    def _note_agents(self, told: Sequence[Observation]) -> None:
        if not told:
            return
        table = store.agent_report
        rows = self.work.connection.execute(select(table).where(table.c.source == self.source)).all()
        known = {(row.agent, row.queue or None): (row.report, row.sequence) for row in rows}
        names = {row.report.get("interface"): row.agent for row in rows if row.report.get("interface")}
        changed: dict[tuple[str, str | None], dict[str, Any]] = {}
        for (agent, queue), report in sorted(agent_reports(told).items(), key=lambda item: item[1].at or 0):
            agent = names.get(agent, agent)
            before, sequence = known.get((agent, queue), ({}, 0))
            merged = _newest(before, report)
            if merged == before:
                continue
            sequence += 1
            known[agent, queue] = merged, sequence
            changed[agent, queue] = {"source": self.source, "agent": agent, "queue": queue or "", "report": merged, "sequence": sequence}
            if not before or _state(merged) != _state(before):
                self._announce_agent(agent, queue, merged, sequence)
        bulk.insert(self.work.connection, table, list(changed.values()), key=("source", "agent", "queue"), update=("report", "sequence"))

    def _announce_agent(self, agent: str, queue: str | None, report: Mapping[str, Any], sequence: int) -> None:
        state, reason = _state(report)
        at = report.get("at") or clock.now()
        data = {
            "source": self.source, "agent": agent, "address": report.get("interface"), "queue": queue, "state": state, "reason": reason, "since": at,
        }  # fmt: skip
        subject = f"{self.source}/{agent}/{queue or '*'}"
        self.work.announce(Event("gateway.agent_state_reported.v1", subject, data, at, sequence))


def _newest(known: Mapping[str, Any], report: AgentReport) -> dict[str, Any]:
    """The report on top of what was known, unless it is older."""
    told = {name: value for name, value in asdict(report).items() if value is not None and name not in ("agent", "queue")}
    if report.paused is not None:
        told["reason"] = report.reason
    older = (report.at or 0) < (known.get("at") or 0)
    return {**told, **known} if older else {**known, **told}


def _state(report: Mapping[str, Any]) -> tuple[str, str | None]:
    if report.get("member") is False:
        return "offline", None
    if report.get("paused"):
        return "paused", report.get("reason")
    return "available", None


def _leg(stored: Mapping[str, Any]) -> Leg:
    return Leg(**{**stored, "ringing": tuple(stored["ringing"]), "estimated": tuple(stored["estimated"])})


def published(leg: Leg) -> dict[str, Any]:
    """The leg as other services see it: without the caller's number, which they do not need."""
    told = asdict(leg)
    del told["caller"], told["distributed"]
    told["address"] = told.pop("interface")
    told["target"] = told.pop("transfer_target")
    told["missed"] = None if leg.missed is None else dict(leg.missed)
    told["ringing"], told["estimated"] = list(leg.ringing), list(leg.estimated)
    if leg.holds is None:
        del told["holds"], told["on_hold_seconds"]
    return told


def _moment(change: Change) -> float:
    leg = change.leg
    at = {"arrived": leg.arrived_at, "answered": leg.answered_at}.get(change.what, leg.ended_at)
    return at if at is not None else clock.now()
